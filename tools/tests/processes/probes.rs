//! What a node says over HTTP on its client port: probes and figures.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::Cluster;

/// A node's whole answer, from the status line on.
pub fn get(cluster: &Cluster, number: usize, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.nodes[number].client_address()).expect("the port is open");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A figure of a node, with the labels of each.
pub fn figures(cluster: &Cluster, number: usize, name: &str) -> Vec<(String, f64)> {
    let answer = get(cluster, number, "/metrics");
    let of_line = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| Some((labels.to_owned(), value.parse().ok()?)))?
    };
    let figures: Vec<_> = answer.lines().filter_map(of_line).collect();
    assert!(!figures.is_empty(), "{name} is not among the figures of node {number}: {answer}");
    figures
}

/// A figure of a node; those with labels are summed up.
pub fn figure(cluster: &Cluster, number: usize, name: &str) -> f64 {
    figures(cluster, number, name).iter().map(|(_, value)| value).sum()
}

/// The same of a figure that counts something.
pub fn count(cluster: &Cluster, number: usize, name: &str) -> u64 {
    figure(cluster, number, name) as u64
}
