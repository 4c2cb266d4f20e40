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
    let groups = read("/proc/self/cgroup");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let groups = enclosing(group).into_iter().map(|group| {
        let file = |name: &str| read(&format!("/sys/fs/cgroup{group}/{name}"));
        left_in_group(&file("memory.max"), &file("memory.current"), &file("memory.stat"))
    });
    let least = [system, process].into_iter().chain(groups).flatten().fold(f64::INFINITY, f64::min);
    least.max(0.0)
}

/// A control group's path and those of the groups that it is in, which have limits of their own; the root is "".
fn enclosing(group: &str) -> Vec<&str> {
    let group = group.trim_end_matches('/');
    let ends = group.match_indices('/').map(|(at, _)| at);
    ends.map(|at| &group[..at]).chain([group]).collect()
}

/// What a group's limit leaves; copies of files that are not in use give way. `None` if there is no limit.
fn left_in_group(limit: &str, used: &str, statistics: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let files = field(statistics, "inactive_file").unwrap_or(0.0);
    Some(number(limit)? - (number(used)? - files).max(0.0))
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
        assert_eq!(enclosing("/batch/job/step"), ["", "/batch", "/batch/job", "/batch/job/step"]);
        assert_eq!(enclosing("/"), [""]);
        assert_eq!(left_in_group("1000\n", "800\n", "anon 500\ninactive_file 300\n"), Some(500.0));
        assert_eq!(left_in_group("max\n", "800\n", ""), None);
        assert!(available() > 0.0);
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert!(check(1e6).is_ok());
        assert!(matches!(check(4e18), Err(Error::Memory { needed, .. }) if needed == 4e18));
    }
}
