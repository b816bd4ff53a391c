//! Where the nodes run: networks and disks of their own if this machine allows it, plain processes beside each other if not.

use std::path::Path;

use bench::nodes::Nodes;

use super::ChaosError;
use super::disks::Disks;
use super::network::Network;
use crate::cmd::power::PowerDisks;

/// Ports of every node where each has a network of its own are as chosen for one network: they are free there too.
#[derive(Debug)]
pub(super) struct Lab {
    /// The network, or why there is none.
    pub(super) network: Result<Network, String>,
    /// The disks, or why there are none.
    pub(super) disks: Result<Disks, String>,
    /// File systems whose power can be cut, if they were asked for.
    pub(super) power: Option<PowerDisks>,
}

impl Lab {
    /// Gives each node its network and its disk; `prefix` names the namespaces that this process is among, if it is. With
    /// `has_power_cuts` the disks are such that lose their power.
    pub(super) fn set_up(
        nodes: &mut Nodes,
        count: usize,
        prefix: Option<&str>,
        has_power_cuts: bool,
    ) -> Result<Self, ChaosError> {
        let alone = || "it needs namespaces of its own".to_owned();
        let network = match prefix {
            Some(prefix) => Ok(Network::open(prefix).map_err(ChaosError::Lab)?),
            None => Err(alone()),
        };
        if let Ok(network) = &network {
            for node in 0..count {
                nodes[node].move_to(network.namespaces.place(node));
            }
        }
        if has_power_cuts {
            let power = Some(PowerDisks::create(nodes)?);
            return Ok(Self { network, disks: Err("they lose their power instead".to_owned()), power });
        }
        let dir: &Path = nodes.dir();
        let disks = if network.is_ok() { Disks::create(dir, count) } else { Err(alone()) };
        if let Ok(disks) = &disks {
            for node in 0..count {
                nodes[node].data_dir = disks.data_dir(node);
            }
        }
        Ok(Self { network, disks, power: None })
    }

    /// What cannot be injected here and why, one line each.
    pub(super) fn lacks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Err(reason) = &self.network {
            lines.push(format!("networks are not cut: {reason}"));
        }
        match &self.disks {
            Err(reason) => lines.push(format!("disks are not filled or slowed down: {reason}")),
            Ok(disks) if !disks.can_hang() => lines.push("disks are not slowed down: they are in memory".to_owned()),
            Ok(_) => {}
        }
        if self.power.is_some() {
            // What is damaged or removed together with a loss of power is beyond what is promised.
            lines.push("nothing is damaged or wiped: nodes lose their power".to_owned());
        }
        lines
    }
}
