//! What a core does in a slice, by kinds: a label of metrics, and no more than that.

/// What a slice was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A tick.
    Tick,
    /// Else of the class of control: what peers say besides entries.
    Control,
    /// A turn that applied entries.
    Apply,
    /// A turn that answered reads, or went on with them.
    Read,
    /// A turn that did both.
    ApplyAndRead,
    /// Else of the class of commits: other turns, the ends of syncs, entries of peers, what is written to peers.
    Commit,
    /// Clients, probes, what is relayed.
    Serving,
    /// The beginnings and ends of what helpers do.
    Background,
}

impl Work {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::Tick,
        Self::Control,
        Self::Apply,
        Self::Read,
        Self::ApplyAndRead,
        Self::Commit,
        Self::Serving,
        Self::Background,
    ];

    /// As the label of a metric says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Control => "control",
            Self::Apply => "apply",
            Self::Read => "read",
            Self::ApplyAndRead => "apply_and_read",
            Self::Commit => "commit",
            Self::Serving => "serving",
            Self::Background => "background",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_and_places_of_their_own() {
        let names: std::collections::BTreeSet<_> = Work::ALL.map(Work::name).into();
        assert_eq!(names.len(), Work::ALL.len());
        assert!(Work::ALL.iter().enumerate().all(|(place, work)| *work as usize == place));
    }
}
