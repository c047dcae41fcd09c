//! Which answers are worth another try, and what a client's own headers may change about it (wire.md 5.5, 7.4).

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_proto::linkerd::outbound::{grpc_route, http_route};

use crate::{
    backoff::Backoff,
    outbound::timeouts::{Timeouts, duration_from},
};

const RETRY_HTTP: HeaderName = HeaderName::from_static("l5d-retry-http");
const RETRY_GRPC: HeaderName = HeaderName::from_static("l5d-retry-grpc");
const RETRY_LIMIT: HeaderName = HeaderName::from_static("l5d-retry-limit");
const RETRY_TIMEOUT: HeaderName = HeaderName::from_static("l5d-retry-timeout");
const TIMEOUT: HeaderName = HeaderName::from_static("l5d-timeout");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("l5d-request-timeout");
const RESPONSE_TIMEOUT: HeaderName = HeaderName::from_static("l5d-response-timeout");

/// Names that headers and annotations use, with their codes.
const GRPC_CODES: [(&str, u8); 5] =
    [("cancelled", 1), ("deadline-exceeded", 4), ("resource-exhausted", 8), ("internal", 13), ("unavailable", 14)];

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Tries after the first.
    pub limit: u32,
    /// Longest request body kept for another try, bytes.
    pub max_request_bytes: usize,
    /// Inclusive.
    statuses: Vec<(u16, u16)>,
    /// One bit per code.
    grpc_codes: u32,
    /// Of one try's wait for response headers; the last try has none.
    pub try_timeout: Option<Duration>,
    pub backoff: Option<Backoff>,
}

/// What retries and timeouts look at in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    pub is_grpc: bool,
    /// From headers or trailers; None while unknown.
    pub grpc_status: Option<u8>,
}

/// What one request goes by: its rule's policy, with what its headers may change of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<'a> {
    pub retry: Option<Cow<'a, Retry>>,
    pub timeouts: Timeouts,
}

impl Retry {
    /// What a client's header makes of a route without retries.
    fn by_request() -> Self {
        Self {
            limit: 1,
            max_request_bytes: 64 * 1024,
            statuses: Vec::new(),
            grpc_codes: 0,
            try_timeout: None,
            backoff: Some(Backoff {
                min: Duration::from_millis(25),
                max: Duration::from_millis(250),
                jitter_ratio: 1.0,
            }),
        }
    }

    pub fn from_http(retry: &http_route::Retry) -> Result<Self, String> {
        let conditions = retry.conditions.as_ref().ok_or("retry has no conditions")?;
        let statuses = conditions.status_ranges.iter().map(|range| {
            let (start, end) = (u16::try_from(range.start), u16::try_from(range.end));
            match (start, end) {
                (Ok(start), Ok(end)) if 1 <= start && start <= end && end <= 599 => Ok((start, end)),
                _ => Err(format!("retry status range {}-{} is not within 1-599", range.start, range.end)),
            }
        });
        Self::new(
            retry.max_retries,
            retry.max_request_bytes,
            statuses.collect::<Result<_, _>>()?,
            0,
            retry.timeout,
            retry.backoff.as_ref(),
        )
    }

    pub fn from_grpc(retry: &grpc_route::Retry) -> Result<Self, String> {
        let c = retry.conditions.as_ref().ok_or("retry has no conditions")?;
        let codes = [
            (c.cancelled, 1),
            (c.deadine_exceeded, 4),
            (c.resource_exhausted, 8),
            (c.internal, 13),
            (c.unavailable, 14),
        ];
        let codes = codes.iter().filter(|(is_set, _)| *is_set).fold(0, |codes, (_, code)| codes | 1 << code);
        Self::new(retry.max_retries, retry.max_request_bytes, Vec::new(), codes, retry.timeout, retry.backoff.as_ref())
    }

    fn new(
        limit: u32,
        max_request_bytes: u32,
        statuses: Vec<(u16, u16)>,
        grpc_codes: u32,
        timeout: Option<prost_types::Duration>,
        backoff: Option<&weft_proto::linkerd::outbound::ExponentialBackoff>,
    ) -> Result<Self, String> {
        let timeout = timeout.and_then(|d| Duration::try_from(d).ok()).filter(|timeout| !timeout.is_zero());
        Ok(Self {
            limit,
            max_request_bytes: max_request_bytes as usize,
            statuses,
            grpc_codes,
            try_timeout: timeout,
            backoff: backoff.map(Backoff::from_wire).transpose()?,
        })
    }

    pub fn wants(&self, head: ResponseHead) -> bool {
        let by_status = self.statuses.iter().any(|(start, end)| (*start..=*end).contains(&head.status));
        by_status || head.grpc_status.is_some_and(|code| code < 32 && self.grpc_codes & (1 << code) != 0)
    }

    /// An answer that came with a gRPC content type may still turn out to be worth another try.
    pub fn watches_trailers(&self) -> bool {
        self.grpc_codes != 0
    }

    fn is_eager(&self) -> bool {
        self.limit > 0
    }
}

impl<'a> Plan<'a> {
    pub fn new(retry: Option<&'a Retry>, timeouts: Timeouts) -> Self {
        Self { retry: retry.filter(|retry| retry.is_eager()).map(Cow::Borrowed), timeouts }
    }

    /// Nothing but one try without limits.
    pub fn is_plain(&self) -> bool {
        self.retry.is_none() && self.timeouts == Timeouts::default()
    }

    /// Takes the headers that set retries and timeouts out of a request whose rule allows them. Nonsense changes nothing.
    pub fn overridden(mut self, headers: &mut HeaderMap) -> Self {
        let http = take(headers, &RETRY_HTTP).and_then(|text| statuses_from(&text));
        let grpc = take(headers, &RETRY_GRPC).and_then(|text| grpc_codes_from(&text));
        let limit = take(headers, &RETRY_LIMIT).and_then(|text| text.parse().ok());
        let try_timeout = take(headers, &RETRY_TIMEOUT).and_then(|text| duration_from(&text));
        if http.is_some() || grpc.is_some() || limit.is_some() || try_timeout.is_some() {
            let mut retry = self.retry.take().map_or_else(Retry::by_request, Cow::into_owned);
            retry.statuses = http.unwrap_or(retry.statuses);
            retry.grpc_codes = grpc.unwrap_or(retry.grpc_codes);
            retry.limit = limit.unwrap_or(retry.limit);
            retry.try_timeout = try_timeout.or(retry.try_timeout).filter(|timeout| !timeout.is_zero());
            self.retry = Some(retry).filter(Retry::is_eager).map(Cow::Owned);
        }
        let [short, long, response] = [&TIMEOUT, &REQUEST_TIMEOUT, &RESPONSE_TIMEOUT]
            .map(|name| take(headers, name).and_then(|t| duration_from(&t)));
        if let Some(request) = long.or(short) {
            self.timeouts.request = Some(request).filter(|limit| !limit.is_zero());
        }
        if let Some(response) = response {
            self.timeouts.response = Some(response).filter(|limit| !limit.is_zero());
        }
        self
    }
}

fn take(headers: &mut HeaderMap, name: &HeaderName) -> Option<String> {
    let text = |value: HeaderValue| value.to_str().ok().map(|text| text.trim().to_owned());
    headers.remove(name).and_then(text)
}

/// `5xx`, `gateway-error`, `404`, `500-504`, separated by commas. None when any part is something else.
fn statuses_from(text: &str) -> Option<Vec<(u16, u16)>> {
    let one = |part: &str| {
        let (start, end) = match part {
            "5xx" => (500, 599),
            "gateway-error" => (502, 504),
            part => match part.split_once('-') {
                Some((start, end)) => (start.parse().ok()?, end.parse().ok()?),
                None => part.parse().map(|status| (status, status)).ok()?,
            },
        };
        ((100..=599).contains(&start) && start <= end && end <= 599).then_some((start, end))
    };
    text.split(',').map(|part| one(part.trim())).collect()
}

fn grpc_codes_from(text: &str) -> Option<u32> {
    let one = |part: &str| GRPC_CODES.iter().find(|(name, _)| *name == part).map(|(_, code)| 1 << code);
    text.split(',').map(|part| one(part.trim())).try_fold(0, |codes, code| Some(codes | code?))
}

#[cfg(test)]
mod tests {
    use weft_proto::linkerd::outbound::ExponentialBackoff;

    use super::*;

    fn head(status: u16, grpc_status: Option<u8>) -> ResponseHead {
        ResponseHead { status, is_grpc: grpc_status.is_some(), grpc_status }
    }

    fn http(ranges: &[(u32, u32)]) -> Result<Retry, String> {
        use http_route::retry::{Conditions, conditions::StatusRange};
        let status_ranges = ranges.iter().map(|(start, end)| StatusRange { start: *start, end: *end }).collect();
        Retry::from_http(&http_route::Retry {
            max_retries: 2,
            max_request_bytes: 100,
            conditions: Some(Conditions { status_ranges }),
            ..Default::default()
        })
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn status_ranges_are_inclusive_and_checked() {
        let retry = http(&[(500, 502), (429, 429)]).unwrap();
        let wanted: Vec<u16> = (400..600).filter(|status| retry.wants(head(*status, None))).collect();
        assert_eq!(wanted, [429, 500, 501, 502]);
        assert!(http(&[(0, 5)]).is_err());
        assert!(http(&[(504, 500)]).is_err());
        assert!(http(&[(500, 600)]).is_err());
        assert!(Retry::from_http(&http_route::Retry::default()).is_err());
    }

    #[test]
    fn grpc_codes_are_wanted_as_listed() {
        let conditions =
            grpc_route::retry::Conditions { deadine_exceeded: true, unavailable: true, ..Default::default() };
        let retry =
            Retry::from_grpc(&grpc_route::Retry { conditions: Some(conditions), ..Default::default() }).unwrap();
        let wanted: Vec<u8> = (0..=40).filter(|code| retry.wants(head(200, Some(*code)))).collect();
        assert_eq!(wanted, [4, 14]);
        assert!(retry.watches_trailers());
    }

    #[test]
    fn a_bad_backoff_makes_the_policy_invalid() {
        let retry = http_route::Retry {
            conditions: Some(Default::default()),
            backoff: Some(ExponentialBackoff::default()),
            ..Default::default()
        };
        assert!(Retry::from_http(&retry).is_err());
    }

    #[test]
    fn any_retry_header_makes_a_policy_where_there_is_none() {
        let mut map = headers(&[("l5d-retry-http", "gateway-error, 429"), ("x-other", "1")]);
        let plan = Plan::new(None, Timeouts::default()).overridden(&mut map);
        let retry = plan.retry.unwrap();
        assert!(retry.wants(head(503, None)) && retry.wants(head(429, None)) && !retry.wants(head(500, None)));
        assert_eq!((retry.limit, retry.max_request_bytes), (1, 65536));
        assert_eq!(map, headers(&[("x-other", "1")]));
    }

    #[test]
    fn headers_override_what_they_name_and_nonsense_changes_nothing() {
        let policy = http(&[(500, 599)]).unwrap();
        let mut map =
            headers(&[("l5d-retry-limit", "5"), ("l5d-retry-http", "sometimes"), ("l5d-retry-timeout", "10")]);
        let plan = Plan::new(Some(&policy), Timeouts::default()).overridden(&mut map);
        assert_eq!(plan.retry.unwrap().into_owned(), Retry { limit: 5, ..policy.clone() });
        assert!(map.is_empty());
        let mut never = headers(&[("l5d-retry-limit", "0")]);
        assert_eq!(Plan::new(Some(&policy), Timeouts::default()).overridden(&mut never).retry, None);
    }

    #[test]
    fn the_longer_name_of_the_request_timeout_wins() {
        let mut map =
            headers(&[("l5d-timeout", "1s"), ("l5d-request-timeout", "2s"), ("l5d-response-timeout", "30ms")]);
        let plan = Plan::new(None, Timeouts::default()).overridden(&mut map);
        assert_eq!(plan.timeouts.request, Some(Duration::from_secs(2)));
        assert_eq!(plan.timeouts.response, Some(Duration::from_millis(30)));
        let mut map = headers(&[("l5d-timeout", "1s"), ("l5d-request-timeout", "soon")]);
        let plan = Plan::new(None, Timeouts::default()).overridden(&mut map);
        assert_eq!(plan.timeouts.request, Some(Duration::from_secs(1)));
    }

    #[test]
    fn grpc_codes_are_named_as_in_annotations() {
        assert_eq!(grpc_codes_from("unavailable, internal"), Some(1 << 14 | 1 << 13));
        assert_eq!(grpc_codes_from("unavailable,sometimes"), None);
    }
}
