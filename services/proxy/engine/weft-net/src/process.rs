//! What the kernel knows of this process, as metrics (observability.md 1.10).

use std::{
    fmt::Write,
    fs,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use weft_core::metrics::Labels;

/// A fact the kernel does not tell is left out.
pub fn expose(build_info: &[(String, String)]) -> String {
    let mut out = String::with_capacity(2048);
    let mut labels = Labels::default();
    for (key, value) in build_info {
        labels.add(key, value);
    }
    family(&mut out, "proxy_build_info", "gauge", "Build of this proxy.", labels.as_str(), 1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64()).unwrap_or_default();
    let mut write = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            family(&mut out, name, kind, help, "", value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    let uptime = stat.as_ref().and_then(Stat::uptime_s);
    // Computed once: a start time that wavers with the clock reads as a restart.
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    let started = *STARTED.get_or_init(|| uptime.map(|up| now - up));
    write("process_start_time_seconds", "gauge", "Time the process started (Unix).", started);
    write("process_clock_time_seconds", "gauge", "Time now (Unix).", Some(now));
    write("process_uptime_seconds_total", "counter", "Time since the process started.", uptime);
    write("process_cpu_seconds_total", "counter", "User and system CPU time.", stat.as_ref().map(Stat::cpu_s));
    write("process_virtual_memory_bytes", "gauge", "Virtual memory.", stat.as_ref().map(|stat| stat.virtual_bytes));
    write("process_resident_memory_bytes", "gauge", "Resident memory.", stat.as_ref().map(Stat::resident_bytes));
    write("process_threads", "gauge", "Threads.", stat.as_ref().map(|stat| stat.threads));
    write("process_open_fds", "gauge", "Open file descriptors.", open_fds());
    write("process_max_fds", "gauge", "Limit of open file descriptors.", max_fds());
    let (received, sent) = network_bytes().unzip();
    write("process_network_receive_bytes_total", "counter", "Bytes received by the pod.", received);
    write("process_network_transmit_bytes_total", "counter", "Bytes sent by the pod.", sent);
    out
}

/// A family of one series, labels as rendered by `Labels`.
pub fn family(out: &mut String, name: &str, kind: &str, help: &str, labels: &str, value: f64) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}")
        .expect("writing to a string cannot fail");
}

/// Fields of `/proc/self/stat`. Source: proc_pid_stat(5).
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold spaces; what follows does not.
        let fields: Vec<f64> =
            text.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(f64::NAN)).collect();
        Some(Self {
            cpu_ticks: fields.get(11)? + fields.get(12)?,
            threads: *fields.get(17)?,
            start_ticks: *fields.get(19)?,
            virtual_bytes: *fields.get(20)?,
            resident_pages: *fields.get(21)?,
        })
    }

    fn cpu_s(&self) -> f64 {
        self.cpu_ticks / sysconf(libc::_SC_CLK_TCK)
    }

    fn resident_bytes(&self) -> f64 {
        self.resident_pages * sysconf(libc::_SC_PAGESIZE)
    }

    fn uptime_s(&self) -> Option<f64> {
        let since_boot: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
        Some((since_boot - self.start_ticks / sysconf(libc::_SC_CLK_TCK)).max(0.0))
    }
}

fn sysconf(name: libc::c_int) -> f64 {
    // SAFETY: takes and returns plain numbers.
    unsafe { libc::sysconf(name) as f64 }
}

fn open_fds() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find(|line| line.starts_with("Max open files"))?.split_whitespace().nth(3)?.parse().ok()
}

/// Of every interface but loopback: the sidecar's network namespace is the pod's.
fn network_bytes() -> Option<(f64, f64)> {
    let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
    let mut total = (0.0, 0.0);
    for (name, numbers) in devices.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<f64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        total = (total.0 + numbers.first()?, total.1 + numbers.get(8)?);
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let tail = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = Stat::parse(&format!("7 (a ) b) {tail}")).unwrap();
        assert_eq!((stat.cpu_ticks, stat.threads, stat.resident_pages), (23.0, 17.0, 21.0));
        assert!(Stat::parse("nonsense").is_none());
    }

    #[test]
    fn the_start_time_does_not_waver() {
        let started = || {
            let text = expose(&[]);
            text.lines().find(|line| line.starts_with("process_start_time_seconds ")).map(str::to_owned).unwrap()
        };
        let before = started();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(before, started());
    }

    #[test]
    fn the_exposition_tells_of_this_process() {
        let text = expose(&[("version".to_owned(), "1".to_owned())]);
        assert!(text.contains("proxy_build_info{version=\"1\"} 1\n"), "{text}");
        for name in ["process_start_time_seconds ", "process_resident_memory_bytes ", "process_open_fds "] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
        }
    }
}
