//! What a shard looks at now and then, on helper threads: whether its log is still where the next start looks for it, how much the log
//! takes, and how much is left for it.

use std::rc::Rc;
use std::time::Duration;

use wal::place::PlaceError;

use super::super::device::ShardDevice;
use super::super::disk_space::DiskSpace;
use super::super::limits::{BLIND_LOOKS_MAX, MEASURE_EVERY_LOOKS, PLACE_CHECK_MS};
use super::super::said::Complaint;
use super::Shard;
use crate::replica::Event;

impl<D: ShardDevice> Shard<D> {
    /// Looks now and then, on a helper thread, whether the log is still in its place, until it is not or the shard stops. A place
    /// that can't be looked at for some time counts as wrong: the next start could not open the log there.
    pub(super) async fn watch_place(self: Rc<Self>) {
        for look in 0_u64.. {
            if self.stopping.get() {
                return;
            }
            if look.is_multiple_of(MEASURE_EVERY_LOOKS) {
                self.measure_space().await;
            }
            glommio::timer::sleep(Duration::from_millis(PLACE_CHECK_MS)).await;
            let place = self.replica.borrow().log().storage().place();
            match self.helpers.run(move || place.check()).await {
                Ok(()) => self.blind_looks.set(0),
                Err(PlaceError::Unknown { path, source }) if self.blind_looks.get() < BLIND_LOOKS_MAX => {
                    self.blind_looks.set(self.blind_looks.get() + 1);
                    if let Some(left_out) = self.said.may_say(Complaint::Files) {
                        let path = path.display();
                        tracing::warn!(shard = self.id.get(), %path, error = %source, left_out, "whether the log is in its place cannot be seen; looking again");
                    }
                }
                Err(error) => {
                    self.deliver(Event::LogNotInPlace(error.to_string()));
                    return;
                }
            }
        }
    }

    /// Measures, on a helper thread, how much the log takes and how much is left for it.
    async fn measure_space(&self) {
        let wal_dir = self.wal_dir.clone();
        match self.helpers.run(move || DiskSpace::of(&wal_dir)).await {
            Ok(space) => self.metrics.standing.measured(space),
            Err(error) => {
                if let Some(left_out) = self.said.may_say(Complaint::Files) {
                    tracing::warn!(shard = self.id.get(), %error, left_out, "the room of the disk cannot be measured");
                }
            }
        }
    }
}
