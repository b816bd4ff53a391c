//! Disks get well again.

use super::host::FILE_WORK_US_MAX;
use super::world::{FaultStep, World};

/// A disk is as fast as before.
#[derive(Debug)]
pub(super) struct Fast {
    pub(super) host: usize,
}

impl FaultStep for Fast {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.hosts[self.host].slowness = 1;
        world.hosts[self.host].file_work_us_max = FILE_WORK_US_MAX;
        Ok(())
    }
}

/// A disk has room again.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) host: usize,
}

impl FaultStep for Room {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.hosts[self.host].disk_is_full = false;
        Ok(())
    }
}
