//! The two text formats in which monitoring takes a node's figures: Prometheus' own, version 0.0.4, and OpenMetrics 1.0.
//!
//! The registry writes OpenMetrics, and describes a figure again for each shard. Both formats want each figure described once, with
//! all of its samples below; and in the older one a counter is described under the name that its samples have. Sources: Prometheus,
//! "Exposition formats"; OpenMetrics 1.0. It knows nothing of HTTP but the value of `Accept`.

use std::collections::BTreeMap;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, version 0.0.4. What is written if nothing else is wanted more.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that a caller prefers, by its `Accept` headers.
    #[must_use]
    pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut open_metrics, mut text, mut other) = (0.0_f32, None::<f32>, 0.0_f32);
        for range in accept.flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            match media {
                "application/openmetrics-text" => open_metrics = open_metrics.max(quality),
                "text/plain" => text = Some(text.map_or(quality, |before| before.max(quality))),
                "text/*" | "*/*" => other = other.max(quality),
                _ => {}
            }
        }
        if open_metrics > text.unwrap_or(other) { Self::OpenMetrics } else { Self::Text }
    }

    /// How an answer in this format names it.
    #[must_use]
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A figure and all of its samples.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<&'a str>,
}

/// The figures in what a registry wrote, each once, in the order in which they were first described.
fn families(written: &str) -> Vec<Family<'_>> {
    let (mut families, mut places) = (Vec::<Family<'_>>::new(), BTreeMap::new());
    assert!(written.is_empty() || written.ends_with('\n'), "whole lines");
    let mut current = None;
    for line in written.lines() {
        let Some(described) = line.strip_prefix("# ") else {
            if let Some(family) = current.and_then(|place: usize| families.get_mut(place)) {
                family.samples.push(line);
            }
            continue;
        };
        let mut words = described.splitn(3, ' ');
        let (Some(word), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
        let place = *places.entry(name).or_insert_with(|| {
            families.push(Family { name, ..Family::default() });
            families.len() - 1
        });
        current = Some(place);
        match word {
            "HELP" => families[place].help = value,
            "TYPE" => families[place].kind = value,
            _ => {}
        }
    }
    families
}

/// Writes what a registry wrote in one of the formats.
#[must_use]
pub(super) fn write(written: &str, format: Format) -> String {
    let mut out = String::with_capacity(written.len());
    for family in families(written) {
        let (name, suffix) = match format {
            Format::Text if family.kind == "counter" => (family.name, "_total"),
            _ => (family.name, ""),
        };
        assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name} is described");
        for (word, value) in [("HELP", family.help), ("TYPE", family.kind)] {
            out.extend(["# ", word, " ", name, suffix, " ", value, "\n"]);
        }
        out.extend(family.samples.iter().flat_map(|sample| [*sample, "\n"]));
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "# HELP node_writes Writes done.\n# TYPE node_writes counter\nnode_writes_total{shard=\"0\"} 3\n\
                           # HELP node_term Term.\n# TYPE node_term gauge\nnode_term{shard=\"0\"} 1\n\
                           # HELP node_writes Writes done.\n# TYPE node_writes counter\nnode_writes_total{shard=\"1\"} 4\n# EOF\n";

    #[test]
    fn each_figure_is_described_once_under_the_name_that_the_format_wants() {
        let text = "# HELP node_writes_total Writes done.\n# TYPE node_writes_total counter\nnode_writes_total{shard=\"0\"} 3\n\
                    node_writes_total{shard=\"1\"} 4\n# HELP node_term Term.\n# TYPE node_term gauge\nnode_term{shard=\"0\"} 1\n";
        assert_eq!(write(WRITTEN, Format::Text), text);
        let open_metrics = text.replace("HELP node_writes_total", "HELP node_writes");
        let open_metrics = open_metrics.replace("TYPE node_writes_total", "TYPE node_writes") + "# EOF\n";
        assert_eq!(write(WRITTEN, Format::OpenMetrics), open_metrics);
    }

    #[test]
    fn openmetrics_is_written_for_whoever_prefers_it() {
        let wanted = |accept: &str| Format::wanted([accept].into_iter());
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [prometheus, "application/openmetrics-text", "*/*;q=0.1, application/openmetrics-text; q=0.2"] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept}");
        }
        let plain = "application/openmetrics-text;q=0.1, text/plain";
        for accept in
            ["", "*/*", "text/html", plain, "application/openmetrics-text;q=0", "application/openmetrics-text;q=x"]
        {
            assert_eq!(wanted(accept), Format::Text, "{accept}");
        }
        let both = ["text/plain;q=0.5", "application/openmetrics-text"];
        assert_eq!(Format::wanted(both.into_iter()), Format::OpenMetrics);
        assert_eq!(Format::wanted(std::iter::empty()), Format::Text);
    }
}
