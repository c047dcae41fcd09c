//! Families of series keyed by their rendered labels.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::value::Metric;

/// Series per family. Beyond it new label sets share one more, labelled `OVERFLOW`, so memory stays bounded and sums true.
const MAX_SERIES: usize = 4096;
const OVERFLOW: &str = "overflow=\"true\"";

/// Labels of one series, rendered as they will be exposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    pub fn add(&mut self, key: &str, value: &str) {
        self.add_prefixed("", key, value);
    }

    /// Key is `<prefix>_<key>`, or the key alone without a prefix.
    pub fn add_prefixed(&mut self, prefix: &str, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        if !prefix.is_empty() {
            self.0.push_str(prefix);
            self.0.push('_');
        }
        self.0.push_str(key);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.add(key, value);
        self
    }

    pub fn extend(&mut self, other: &Labels) {
        if !self.0.is_empty() && !other.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&other.0);
    }

    #[must_use]
    pub fn and(mut self, other: &Labels) -> Self {
        self.extend(other);
        self
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Series<M> {
    metric: Arc<M>,
    activity: u64,
    changed: Instant,
}

/// One metric name. `series` is for when a connection or endpoint is set up; keep what it returns.
pub struct Family<M> {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    make: fn() -> M,
    series: Mutex<BTreeMap<String, Series<M>>>,
    overflow: Arc<M>,
}

impl<M: Metric> Family<M> {
    pub fn new(name: &'static str, help: &'static str, kind: Kind, make: fn() -> M) -> Arc<Self> {
        Arc::new(Self { name, help, kind, make, series: Mutex::default(), overflow: Arc::new(make()) })
    }

    pub fn series(&self, labels: &Labels) -> Arc<M> {
        let mut all = self.series.lock();
        if let Some(series) = all.get(&labels.0) {
            return series.metric.clone();
        }
        if all.len() >= MAX_SERIES {
            return self.overflow.clone();
        }
        let metric = Arc::new((self.make)());
        let series = Series { metric: metric.clone(), activity: 0, changed: Instant::now() };
        all.insert(labels.0.clone(), series);
        metric
    }
}

trait Expose: Send + Sync {
    fn expose(&self, now: Instant, retain_idle: Duration, out: &mut String);
}

impl<M: Metric> Expose for Family<M> {
    fn expose(&self, now: Instant, retain_idle: Duration, out: &mut String) {
        let mut all = self.series.lock();
        all.retain(|_, series| {
            let activity = series.metric.activity();
            if activity != series.activity {
                series.activity = activity;
                series.changed = now;
            }
            Arc::strong_count(&series.metric) > 1 || now.duration_since(series.changed) < retain_idle
        });
        if all.is_empty() {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", self.name, self.help, self.name)
            .expect("writing to a string cannot fail");
        for (labels, series) in all.iter() {
            series.metric.write(self.name, labels, out);
        }
        if self.overflow.activity() > 0 {
            self.overflow.write(self.name, OVERFLOW, out);
        }
    }
}

/// Every family, in exposition order.
#[derive(Default)]
pub struct Registry {
    families: Mutex<Vec<Arc<dyn Expose>>>,
}

impl Registry {
    pub fn family<M: Metric>(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        make: fn() -> M,
    ) -> Arc<Family<M>> {
        let family = Family::new(name, help, kind, make);
        self.families.lock().push(family.clone());
        family
    }

    pub fn expose(&self, now: Instant, retain_idle: Duration) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for family in self.families.lock().iter() {
            family.expose(now, retain_idle, &mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Counter;

    #[test]
    fn label_values_are_escaped() {
        let labels = Labels::default().with("a", "x\"y\\z\n").with("b", "");
        assert_eq!(labels.as_str(), r#"a="x\"y\\z\n",b="""#);
    }

    #[test]
    fn a_family_without_series_is_silent_and_an_idle_one_is_dropped() {
        let registry = Registry::default();
        let family = registry.family("hits_total", "Hits.", Kind::Counter, Counter::default);
        let start = Instant::now();
        let retain = Duration::from_secs(60);
        assert_eq!(registry.expose(start, retain), "");
        let held = family.series(&Labels::default().with("a", "b"));
        held.incr();
        let text = "# HELP hits_total Hits.\n# TYPE hits_total counter\nhits_total{a=\"b\"} 1\n";
        assert_eq!(registry.expose(start, retain), text);
        assert_eq!(registry.expose(start + retain * 2, retain), text);
        drop(held);
        assert_eq!(registry.expose(start + retain * 2, retain), "");
    }

    #[test]
    fn series_are_bounded_and_the_rest_are_counted_in_one() {
        let registry = Registry::default();
        let family = registry.family("x_total", "X.", Kind::Counter, Counter::default);
        for n in 0..MAX_SERIES {
            family.series(&Labels::default().with("n", &n.to_string()));
        }
        let retain = Duration::from_secs(60);
        assert!(!registry.expose(Instant::now(), retain).contains("overflow"));
        family.series(&Labels::default().with("n", "over")).incr();
        family.series(&Labels::default().with("n", "over again")).incr();
        let text = registry.expose(Instant::now(), retain);
        assert!(text.ends_with("x_total{overflow=\"true\"} 2\n"), "{}", &text[text.len() - 200..]);
        assert_eq!(text.lines().count(), MAX_SERIES + 3);
    }
}
