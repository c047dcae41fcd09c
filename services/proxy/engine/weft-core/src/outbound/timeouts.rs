//! How long an exchange may take, and which limit ran out. Time is an argument (wire.md 7.4).

use std::time::{Duration, Instant};

use weft_proto::linkerd::http_route as wire;

use crate::failure::Expired;

/// None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole exchange, retries included.
    pub request: Option<Duration>,
    /// The response, from the time the request was sent.
    pub response: Option<Duration>,
    /// No data in either direction.
    pub idle: Option<Duration>,
}

impl Timeouts {
    /// deprecated: the rule's old field for the request timeout. Zero means none.
    pub fn from_wire(timeouts: Option<&wire::Timeouts>, deprecated: Option<prost_types::Duration>) -> Self {
        let time = |d: Option<prost_types::Duration>| {
            d.and_then(|d| Duration::try_from(d).ok()).filter(|duration| !duration.is_zero())
        };
        Self {
            request: time(timeouts.and_then(|t| t.request)).or(time(deprecated)),
            response: time(timeouts.and_then(|t| t.response)),
            idle: time(timeouts.and_then(|t| t.idle)),
        }
    }
}

/// The limits of one try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// When the whole exchange must be over.
    pub request_at: Option<Instant>,
    /// A wait for response headers.
    pub headers: Option<Duration>,
    pub response: Option<Duration>,
    pub idle: Option<Duration>,
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// When the request was sent whole; None while it is not.
    pub sent_at: Option<Instant>,
    /// When data last moved.
    pub moved_at: Instant,
}

impl Limits {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// When to look again, or the limit that ran out. None: nothing will run out.
    pub fn check(&self, now: Instant, progress: Progress) -> Result<Option<Instant>, Expired> {
        // Before the request is sent no limit on the response runs; it cannot end sooner than its full length from now.
        let from_sent = |limit: Option<Duration>| limit.map(|limit| progress.sent_at.unwrap_or(now) + limit);
        let dues = [
            (self.request_at, Expired::Request),
            (from_sent(self.headers), Expired::ResponseHeaders),
            (from_sent(self.response), Expired::Response),
            (self.idle.map(|idle| progress.moved_at + idle), Expired::Idle),
        ];
        let mut next = None;
        for (due, expired) in dues {
            match due {
                Some(due) if due <= now => return Err(expired),
                Some(due) => next = Some(next.map_or(due, |next: Instant| next.min(due))),
                None => {}
            }
        }
        Ok(next)
    }
}

/// `10s`, `1m30s`, `250ms`; a bare 0. None for anything else.
pub fn duration_from(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86400),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(u32::try_from(count).ok()?)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("99999999999999999999d", None),
        ];
        for (text, ms) in table {
            assert_eq!(duration_from(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_deprecated_field_counts_only_without_the_new_one() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let new = wire::Timeouts { request: seconds(1), ..Default::default() };
        assert_eq!(Timeouts::from_wire(Some(&new), seconds(2)).request, Some(SECOND));
        assert_eq!(Timeouts::from_wire(None, seconds(2)).request, Some(2 * SECOND));
        assert_eq!(Timeouts::from_wire(None, seconds(0)), Timeouts::default());
    }

    #[test]
    fn the_response_is_timed_from_when_the_request_was_sent() {
        let start = Instant::now();
        let limits = Limits { response: Some(SECOND), headers: Some(2 * SECOND), ..Default::default() };
        let sending = Progress { sent_at: None, moved_at: start };
        assert_eq!(limits.check(start + 5 * SECOND, sending), Ok(Some(start + 6 * SECOND)));
        let sent = Progress { sent_at: Some(start), moved_at: start };
        assert_eq!(limits.check(start, sent), Ok(Some(start + SECOND)));
        assert_eq!(limits.check(start + SECOND, sent), Err(Expired::Response));
        let headers = Limits { headers: Some(SECOND), ..Default::default() };
        assert_eq!(headers.check(start + SECOND, sent), Err(Expired::ResponseHeaders));
    }

    #[test]
    fn moving_data_puts_idleness_off_but_not_the_whole() {
        let start = Instant::now();
        let limits = Limits { request_at: Some(start + 3 * SECOND), idle: Some(2 * SECOND), ..Default::default() };
        let progress = |seconds: u32| Progress { sent_at: None, moved_at: start + seconds * SECOND };
        assert_eq!(limits.check(start + 2 * SECOND, progress(0)), Err(Expired::Idle));
        assert_eq!(limits.check(start + 2 * SECOND, progress(1)), Ok(Some(start + 3 * SECOND)));
        assert_eq!(limits.check(start + 3 * SECOND, progress(3)), Err(Expired::Request));
        assert_eq!(Limits::default().check(start, progress(0)), Ok(None));
    }
}
