//! Where the nodes run: networks and disks of their own if this machine allows it, plain processes beside each other if not.

use std::path::Path;

use bench::nodes::Nodes;

use super::ChaosError;
use super::disks::Disks;
use super::network::Network;

/// Ports of every node where each has a network of its own are as chosen for one network: they are free there too.
#[derive(Debug)]
pub(super) struct Lab {
    /// The network, or why there is none.
    pub(super) network: Result<Network, String>,
    /// The disks, or why there are none.
    pub(super) disks: Result<Disks, String>,
}

impl Lab {
    /// Gives each node its network and its disk; `prefix` names the namespaces that this process is among, if it is.
    pub(super) fn set_up(nodes: &mut Nodes, count: usize, prefix: Option<&str>) -> Result<Self, ChaosError> {
        let Some(prefix) = prefix else {
            let reason = "it needs namespaces of its own";
            return Ok(Self { network: Err(reason.to_owned()), disks: Err(reason.to_owned()) });
        };
        let network = Network::open(prefix).map_err(ChaosError::Lab)?;
        for node in 0..count {
            nodes[node].move_to(network.namespaces.place(node));
        }
        let dir: &Path = nodes.dir();
        let disks = Disks::create(dir, count);
        if let Ok(disks) = &disks {
            for node in 0..count {
                nodes[node].data_dir = disks.data_dir(node);
            }
        }
        Ok(Self { network: Ok(network), disks })
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
        lines
    }
}
