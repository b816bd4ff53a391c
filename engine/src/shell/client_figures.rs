//! Counts of what clients of a node were told instead of what they asked for. All of their connections share them.

use std::sync::Arc;

use net::api::Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// What clients of a node were told instead of what they asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientFigures {
    /// Answers that a refusal took the place of, since too many bytes of answers waited for clients of their core.
    pub(super) answers_dropped: Counter,
    /// Refusals, by their status.
    refused: Arc<[(Status, Counter)]>,
}

impl ClientFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let answers_dropped = Counter::default();
        registry.register(
            "client_answers_dropped",
            "Answers replaced by a refusal because too many bytes of answers waited for clients",
            answers_dropped.clone(),
        );
        // Their numbers on the wire follow each other.
        let statuses = (1..=u8::MAX).map_while(|number| Status::from_wire(number).ok());
        let refused = statuses.map(|status| {
            let counter = Counter::default();
            let registry = registry.sub_registry_with_label(("reason".into(), status.as_str().into()));
            let help = "Requests of clients that were refused, by the reason";
            registry.register("client_requests_refused", help, counter.clone());
            (status, counter)
        });
        let refused: Arc<[(Status, Counter)]> = refused.collect();
        assert!(!refused.is_empty(), "the first status has the number 1");
        Self { answers_dropped, refused }
    }

    /// How many requests were refused with this status.
    #[cfg(test)]
    pub(super) fn refused_count(&self, status: Status) -> u64 {
        self.refused.iter().filter(|(known, _)| *known == status).map(|(_, counter)| counter.get()).sum()
    }

    /// A client was refused a request.
    pub(super) fn refused(&self, status: Status) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == status) {
            counter.inc();
        }
    }
}
