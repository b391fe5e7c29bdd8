//! What the system says of this process, under the names that every exporter of metrics has for it. Linux alone; elsewhere there
//! are none.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// The kernel counts time in hundredths of a second for programs, whatever it does inside (USER_HZ).
const TICKS: f64 = 100.0;

/// Puts them where they are read from.
pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu(&stat) {
            let help = "CPU time of this process, in user and kernel";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        let mut gauge = |name, help, value: Option<f64>| match value {
            Some(value) => ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?),
            None => Ok(()),
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        gauge("process_resident_memory_bytes", "Memory that is in use", kilobytes(&status, "VmRSS:"))?;
        gauge("process_virtual_memory_bytes", "Addresses that are in use", kilobytes(&status, "VmSize:"))?;
        gauge("process_threads", "Threads", field(&status, "Threads:"))?;
        let open = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as f64).ok();
        gauge("process_open_fds", "Files and sockets that are open", open)?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        gauge("process_max_fds", "Files and sockets that may be open", most_files(&limits))?;
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        gauge("process_start_time_seconds", "When it started, since 1970", started(&stat, &boot))
    }
}

/// A field of `/proc/self/stat` by its number in proc(5). The second one, the program's name, may hold anything.
fn nth(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn cpu(stat: &str) -> Option<f64> {
    Some((nth(stat, 14)? + nth(stat, 15)?) / TICKS)
}

fn started(stat: &str, boot: &str) -> Option<f64> {
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(boot + nth(stat, 22)? / TICKS)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    field(status, name).map(|kilobytes| kilobytes * 1024.0)
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 2000 123 45 18446744073709551615";
        assert_eq!(cpu(stat), Some(2.0));
        assert_eq!(started(stat, "cpu 1 2\nbtime 1000\n"), Some(1020.0));
        let status = "Name:\ttunnel\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t4\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1_048_576.0));
        assert_eq!(field(status, "Threads:"), Some(4.0));
        assert_eq!(
            most_files("Max open files            1024                 524288               files\n"),
            Some(1024.0)
        );
        assert_eq!((cpu(""), most_files("Max open files  unlimited x files")), (None, None));
    }
}
