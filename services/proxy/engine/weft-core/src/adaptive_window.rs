//! How far an HTTP/2 flow-control window has to be open so that the connection, not the window, bounds the speed: no less than
//! the bytes that arrive during one round trip.

use std::time::Duration;

/// Bytes; what a connection begins with (RFC 9113 6.9.2) and the most that it gets.
const FIRST: u32 = 65_535;
const LARGEST: u32 = 16 << 20;
/// Weight of the newest round trip in their average.
const NEWEST: f64 = 1.0 / 8.0;

/// Grows while more arrives per second than ever before.
#[derive(Debug)]
pub struct AdaptiveWindow {
    bytes: u32,
    round_trip_s: Option<f64>,
    most_per_s: f64,
}

impl Default for AdaptiveWindow {
    fn default() -> Self {
        Self { bytes: FIRST, round_trip_s: None, most_per_s: 0.0 }
    }
}

impl AdaptiveWindow {
    /// arrived: bytes of about one round trip. The new size if the window has to grow.
    pub fn sample(&mut self, arrived: u64, round_trip: Duration) -> Option<u32> {
        let newest = round_trip.as_secs_f64();
        let average = self.round_trip_s.map_or(newest, |average| average + (newest - average) * NEWEST);
        self.round_trip_s = Some(average);
        let per_s = arrived as f64 / average.max(f64::EPSILON);
        if per_s <= self.most_per_s {
            return None;
        }
        self.most_per_s = per_s;
        // Less than most of the window: something else was the bound.
        if arrived < u64::from(self.bytes) * 2 / 3 {
            return None;
        }
        let wanted = u32::try_from(arrived.saturating_mul(2)).unwrap_or(LARGEST).min(LARGEST);
        (wanted > self.bytes).then(|| {
            self.bytes = wanted;
            wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Duration = Duration::from_millis(10);

    #[test]
    fn a_window_that_was_filled_doubles_what_filled_it() {
        let mut window = AdaptiveWindow::default();
        assert_eq!(window.sample(60_000, TRIP), Some(120_000));
        assert_eq!(window.sample(119_000, TRIP), Some(238_000));
    }

    #[test]
    fn what_does_not_fill_the_window_leaves_it() {
        let mut window = AdaptiveWindow::default();
        assert_eq!(window.sample(10_000, TRIP), None);
        assert_eq!(window.sample(0, Duration::ZERO), None);
    }

    #[test]
    fn a_full_window_that_brought_no_more_speed_stays() {
        let mut window = AdaptiveWindow::default();
        assert_eq!(window.sample(60_000, TRIP), Some(120_000));
        assert_eq!(window.sample(120_000, TRIP * 40), None);
    }

    #[test]
    fn no_window_grows_beyond_the_largest() {
        let mut window = AdaptiveWindow::default();
        assert_eq!(window.sample(u64::MAX, TRIP), Some(LARGEST));
        assert_eq!(window.sample(u64::MAX, TRIP / 2), None);
    }
}
