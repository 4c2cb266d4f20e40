//! How much memory there is, so that a call that cannot be served ends with an error and not with the process.

use crate::error::{Error, Result};
use std::fs::read_to_string;

/// Bytes that may still be used: the least of what the system has available and of what the limits on this process
/// (`ulimit -v`) and on its control group (containers, batch systems) leave. Infinite where the system does not say.
pub fn available() -> f64 {
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    let system = field(&read("/proc/meminfo"), "MemAvailable:").map(|kilobytes| 1024.0 * kilobytes);
    let used = field(&read("/proc/self/status"), "VmSize:").map(|kilobytes| 1024.0 * kilobytes);
    let process = address_space(&read("/proc/self/limits")).zip(used).map(|(limit, used)| limit - used);
    let group = read("/proc/self/cgroup");
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_end_matches('/');
    let folder = format!("/sys/fs/cgroup{group}");
    let number = |path: String| read(&path).trim().parse::<f64>().ok();
    let left = |limit: &str, used: &str| {
        number(format!("{folder}/{limit}")).zip(number(format!("{folder}/{used}"))).map(|(a, b)| a - b)
    };
    let group = left("memory.max", "memory.current");
    let least = [system, process, group].into_iter().flatten().fold(f64::INFINITY, f64::min);
    least.max(0.0)
}

/// [`Error::Memory`] if so many bytes cannot be had at once.
pub(crate) fn check(bytes: f64) -> Result<()> {
    let mut block: Vec<u8> = Vec::new();
    block
        .try_reserve_exact(bytes as usize)
        .map_err(|_| Error::Memory { needed: bytes, available: available() })
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The soft limit on the address space, of `/proc/self/limits`; `None` if there is none.
fn address_space(limits: &str) -> Option<f64> {
    field(limits, "Max address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_system_writes_them() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax address space  716800000  unlimited  bytes\n";
        assert_eq!(address_space(limits), Some(716_800_000.0));
        assert_eq!(
            address_space("Max address space         unlimited            unlimited            bytes"),
            None
        );
        assert_eq!(field("MemFree: 3 kB\nMemAvailable:   1234 kB\n", "MemAvailable:"), Some(1234.0));
        assert!(available() > 0.0);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert!(check(1e6).is_ok());
        assert!(matches!(check(4e18), Err(Error::Memory { needed, .. }) if needed == 4e18));
    }
}
