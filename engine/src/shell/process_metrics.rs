//! Figures of the whole process under the names that Prometheus' client libraries give them. They are read when they are asked for,
//! from `/proc`, which does not wait for any disk. A figure that the system does not tell is left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};

/// Reads the figures of this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// What the system says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    /// Time on processors, in the kernel too. Unit: s.
    cpu_s: Option<f64>,
    /// When it started, since 1970. Unit: s.
    start_s: Option<f64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Figures {
    fn read() -> Self {
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        let page_bytes = rustix::param::page_size() as u64;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot_s = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time_s(&text));
        let stat = Stat::parse(&stat);
        Self {
            cpu_s: stat.map(|stat| stat.cpu_ticks as f64 / ticks_per_s),
            start_s: stat.zip(boot_s).map(|(stat, boot_s)| boot_s as f64 + stat.start_ticks as f64 / ticks_per_s),
            virtual_bytes: stat.map(|stat| stat.virtual_bytes),
            resident_bytes: stat.map(|stat| stat.resident_pages.saturating_mul(page_bytes)),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Fields of `/proc/self/stat`. Source: proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold any; the third field comes behind the last.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system was started, since 1970. Unit: s.
fn boot_time_s(proc_stat: &str) -> Option<u64> {
    proc_stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Open descriptors. Newer kernels tell their number as the size of the directory; older ones have them counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The one that reads is among them.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let figures = Figures::read();
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("process_virtual_memory_bytes", "Virtual memory of the process", figures.virtual_bytes)?;
        let help = "Resident memory of the process, mapped log files included";
        gauge("process_resident_memory_bytes", help, figures.resident_bytes)?;
        gauge("process_open_fds", "Open file descriptors of the process", figures.open_fds)?;
        gauge("process_max_fds", "Limit on open file descriptors of the process", figures.max_fds)?;
        if let Some(start_s) = figures.start_s {
            let (start, help) = (ConstGauge::new(start_s), "When the process started, since 1970");
            start.encode(encoder.encode_descriptor(
                "process_start_time_seconds",
                help,
                None,
                start.metric_type(),
            )?)?;
        }
        if let Some(cpu_s) = figures.cpu_s {
            let (cpu, help) =
                (ConstCounter::new(cpu_s), "Processor time of all threads of the process, in the kernel too");
            cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_whatever_its_name_is() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 100 23 16 17 18 19 20 21 5000 4096000 77 0 0";
        let expected = Stat { cpu_ticks: 123, start_ticks: 5000, virtual_bytes: 4_096_000, resident_pages: 77 };
        for name in ["quorate", "a) b", "(x) y)"] {
            assert_eq!(Stat::parse(&format!("42 ({name}) {rest}")), Some(expected), "{name}");
        }
        for text in ["", "42 (quorate", "42 (quorate) S 1 2"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
        assert_eq!(boot_time_s("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let figures = Figures::read();
        let now_s =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(figures.start_s.is_some_and(|start_s| start_s > 0.0 && start_s < now_s + 2.0), "{figures:?}");
        assert!(figures.cpu_s.is_some() && figures.virtual_bytes > figures.resident_bytes, "{figures:?}");
        assert!(figures.open_fds.is_some_and(|count| count > 2) && figures.max_fds > figures.open_fds, "{figures:?}");
    }
}
