//! What each endpoint said of a request, for the error of one that nobody could do.

use std::fmt::Write;
use std::time::Duration;

use super::Endpoint;

/// The last thing that each endpoint said, in the order in which they first said something.
#[derive(Debug, Default)]
pub(super) struct Said {
    lines: Vec<(Endpoint, String)>,
    /// A node answered that it has nobody to bring the request to.
    pub is_without_leader: bool,
}

impl Said {
    pub fn note(&mut self, endpoint: &Endpoint, what: String) {
        match self.lines.iter_mut().find(|(known, _)| known == endpoint) {
            Some((_, last)) => *last = what,
            None => self.lines.push((endpoint.clone(), what)),
        }
    }

    /// Fills in what is known of an endpoint that was not heard of here.
    pub fn complete(&mut self, endpoint: &Endpoint, what: impl FnOnce() -> String) {
        if !self.lines.iter().any(|(known, _)| known == endpoint) {
            self.lines.push((endpoint.clone(), what()));
        }
    }

    /// Says first what it means, then one line for each endpoint. Of a single endpoint it says only what that one said.
    pub(crate) fn into_reason(self, headline: &str, waited: Duration) -> String {
        if let [(endpoint, what)] = self.lines.as_slice() {
            return format!("{endpoint}: {what}");
        }
        let waited_ms = waited.as_millis();
        let mut reason = if self.is_without_leader {
            format!("there is no quorum: within {waited_ms} ms no endpoint led to a leader")
        } else {
            headline.to_owned()
        };
        // What was refused at once was not waited for.
        if waited_ms > 0 && !self.is_without_leader {
            let _ = write!(reason, " within {waited_ms} ms");
        }
        for (endpoint, what) in &self.lines {
            // Writing to a string does not fail.
            let _ = write!(reason, "\n  {endpoint}: {what}");
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    #[test]
    fn the_last_word_of_each_endpoint_is_told_on_a_line_of_its_own() {
        let mut said = Said::default();
        said.note(&endpoint("a:1"), "no leader yet".to_owned());
        said.note(&endpoint("b:1"), "nothing listens there".to_owned());
        said.note(&endpoint("a:1"), "no leader".to_owned());
        said.complete(&endpoint("b:1"), || "not asked".to_owned());
        said.complete(&endpoint("c:1"), || "not asked".to_owned());
        said.is_without_leader = true;
        let expected = "there is no quorum: within 50 ms no endpoint led to a leader\n  a:1: no leader\n  b:1: nothing \
                        listens there\n  c:1: not asked";
        assert_eq!(said.into_reason("nobody did it", Duration::from_millis(50)), expected);
    }

    #[test]
    fn no_time_is_told_where_nothing_was_waited_for() {
        for (waited, expected) in
            [(Duration::ZERO, "nobody did it\n"), (Duration::from_millis(7), "nobody did it within 7 ms\n")]
        {
            let mut said = Said::default();
            ["a:1", "b:1"].iter().for_each(|text| said.note(&endpoint(text), "refused".to_owned()));
            let reason = said.into_reason("nobody did it", waited);
            assert!(reason.starts_with(expected), "{reason}");
        }
    }

    #[test]
    fn one_endpoint_needs_no_list() {
        let mut said = Said::default();
        said.note(&endpoint("a:1"), "no answer in time".to_owned());
        assert_eq!(said.into_reason("nobody did it", Duration::from_millis(50)), "a:1: no answer in time");
    }
}
