//! The three kinds of numbers a series can hold.

use std::{
    fmt::Write,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// Counters wrap here, so that they stay exact as doubles.
const WRAP: u64 = 1 << 53;

/// One series' numbers. `write` renders every line of it.
pub trait Metric: Send + Sync + 'static {
    fn write(&self, name: &str, labels: &str, out: &mut String);
    /// Grows whenever the series is touched; an unchanged activity means idle.
    fn activity(&self) -> u64;
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub fn incr(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed) % WRAP
    }
}

impl Metric for Counter {
    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, "", labels, None, &self.value());
    }

    fn activity(&self) -> u64 {
        self.value()
    }
}

#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Relaxed);
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Gauge {
    fn write(&self, name: &str, labels: &str, out: &mut String) {
        line(out, name, "", labels, None, &self.value());
    }

    fn activity(&self) -> u64 {
        self.value() as u64
    }
}

/// Upper bounds of the legacy latency histogram, ms; +Inf is implied.
pub const LATENCY_MS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 3000.0,
    4000.0, 5000.0, 10000.0, 20000.0, 30000.0, 40000.0, 50000.0,
];

/// Fixed buckets. The sum is kept in millionths, so it needs no lock and no float.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    sum_millionths: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_millionths: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Relaxed);
        self.sum_millionths.fetch_add((value * 1e6) as u64, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

impl Metric for Histogram {
    fn write(&self, name: &str, labels: &str, out: &mut String) {
        let mut total = 0;
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            match self.bounds.get(index) {
                Some(bound) => line(out, name, "_bucket", labels, Some(&bound.to_string()), &total),
                None => line(out, name, "_bucket", labels, Some("+Inf"), &total),
            }
        }
        line(out, name, "_count", labels, None, &total);
        let sum = self.sum_millionths.load(Relaxed) as f64 / 1e6;
        line(out, name, "_sum", labels, None, &sum);
    }

    fn activity(&self) -> u64 {
        self.count()
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, le: Option<&str>, value: &dyn std::fmt::Display) {
    out.push_str(name);
    out.push_str(suffix);
    match (labels.is_empty(), le) {
        (true, None) => {}
        (true, Some(le)) => write!(out, "{{le=\"{le}\"}}").expect("writing to a string cannot fail"),
        (false, None) => write!(out, "{{{labels}}}").expect("writing to a string cannot fail"),
        (false, Some(le)) => write!(out, "{{{labels},le=\"{le}\"}}").expect("writing to a string cannot fail"),
    }
    writeln!(out, " {value}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative_and_inclusive() {
        let histogram = Histogram::new(&[1.0, 5.0]);
        for value in [0.0, 1.0, 2.0, 9.0] {
            histogram.observe(value);
        }
        let mut out = String::new();
        histogram.write("h", "a=\"b\"", &mut out);
        assert_eq!(
            out,
            "h_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"5\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 4\n\
             h_count{a=\"b\"} 4\nh_sum{a=\"b\"} 12\n"
        );
    }

    #[test]
    fn counters_wrap_where_doubles_stop_being_exact() {
        let counter = Counter::default();
        counter.add(WRAP + 3);
        assert_eq!(counter.value(), 3);
    }
}
