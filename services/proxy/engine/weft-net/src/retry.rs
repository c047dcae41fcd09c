//! Another try where policy or profile calls for one and the request can be sent again (wire.md 7.4).

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use http::{Request, Response};
use weft_core::{
    failure::{Expired, Failure},
    headers::{grpc_status, is_grpc},
    metrics::RouteSeries,
    outbound::{Limits, Plan, ResponseHead, Retry},
    profile::ProfileRule,
};

use crate::{
    attempt::Tries,
    body::Body,
    replay::Replay,
    respond::Ended,
    routing::{Counts, ProfileSeries},
    serve::BoxRequest,
};

/// Longest request body that a ServiceProfile's retries keep, bytes.
const PROFILE_REPLAY: usize = 64 * 1024;

/// Sends a request as its policy says: limits on every try, and as many tries as it allows.
pub async fn send(tries: &mut Tries<'_>, request: BoxRequest, plan: Plan<'_>) -> Result<Response<Body>, Ended> {
    let limits = Limits {
        request_at: plan.timeouts.request.map(|limit| Instant::now() + limit),
        headers: None,
        response: plan.timeouts.response,
        idle: plan.timeouts.idle,
    };
    let (retry, Counts::Policy(series)) = (plan.retry, tries.counts) else {
        return tries.attempt(request, limits, true).await;
    };
    match retry {
        // A protocol switch hands the connection over: there is nothing to send again.
        Some(retry) if tries.switch.is_none() => by_policy(tries, request, retry, limits, series).await,
        _ => tries.attempt(request, limits, true).await,
    }
}

async fn by_policy(
    tries: &mut Tries<'_>,
    request: BoxRequest,
    retry: Cow<'_, Retry>,
    limits: Limits,
    series: &RouteSeries,
) -> Result<Response<Body>, Ended> {
    let (parts, body) = request.into_parts();
    let replay = match Replay::new(body, retry.max_request_bytes) {
        Ok(replay) => replay,
        Err(body) => return tries.attempt(Box::new(Request::from_parts(parts, body)), limits, true).await,
    };
    for tried in 0.. {
        let is_last = tried >= retry.limit;
        let headers = retry.try_timeout.filter(|_| !is_last);
        let request = Box::new(Request::from_parts(parts.clone(), replay.body()));
        let result = tries.attempt(request, Limits { headers, ..limits }, tried == 0).await;
        let (result, wants_more) = judge(result, &replay, |head| retry.wants(head), retry.watches_trailers()).await;
        let can_more = wants_more && replay.is_kept();
        if !wants_more && tried > 0 {
            series.retries().successes.incr();
        }
        if wants_more && is_last {
            series.retries().limit_exceeded.incr();
        }
        if !can_more || is_last {
            return result;
        }
        let routing = tries.routing;
        if tries.rule.backends.choose(|backend| routing.is_available(tries.proxy, backend), || 0).is_err() {
            series.retries().overflow.incr();
            return result;
        }
        tries.record.try_failed(&outcome(&result));
        // Ends the exchange that is given up before the next one begins.
        drop(result);
        let wait = retry.backoff.map_or(Duration::ZERO, |backoff| backoff.delay(tried, tries.proxy.random()));
        let now = Instant::now();
        if limits.request_at.is_some_and(|at| at <= now + wait) {
            tokio::time::sleep_until(limits.request_at.unwrap_or(now).into()).await;
            return Err(Failure::TimedOut(Expired::Request).into());
        }
        tokio::time::sleep(wait).await;
        series.retries().requests.incr();
    }
    unreachable!("the loop ends with its last try")
}

/// As a ServiceProfile says: its timeout bounds everything up to the response, its budget pays for retries.
pub async fn by_profile(
    tries: &mut Tries<'_>,
    request: BoxRequest,
    rule: &ProfileRule,
    series: &ProfileSeries,
) -> Result<Response<Body>, Ended> {
    let limit = tries.rule.timeouts.request;
    let sending = with_budget(tries, request, rule, series);
    match limit {
        None => sending.await,
        Some(limit) => match tokio::time::timeout(limit, sending).await {
            Ok(result) => result,
            Err(_) => Err(Failure::ProfileTimeout.into()),
        },
    }
}

async fn with_budget(
    tries: &mut Tries<'_>,
    request: BoxRequest,
    rule: &ProfileRule,
    series: &ProfileSeries,
) -> Result<Response<Body>, Ended> {
    let Some(budget) = tries.routing.budget().filter(|_| rule.budget.is_some() && tries.switch.is_none()) else {
        return tries.attempt(request, Limits::default(), true).await;
    };
    let (parts, body) = request.into_parts();
    let replay = match Replay::new(body, PROFILE_REPLAY) {
        Ok(replay) => replay,
        Err(body) => return tries.attempt(Box::new(Request::from_parts(parts, body)), Limits::default(), true).await,
    };
    let mut is_first = true;
    loop {
        let request = Box::new(Request::from_parts(parts.clone(), replay.body()));
        let result = tries.attempt(request, Limits::default(), is_first).await;
        let (result, wants_more) = match result {
            // Failures of our own are not the profile's to classify.
            Err(ended) => (Err(ended), false),
            answered => judge(answered, &replay, |head| rule.is_failure(head), true).await,
        };
        if !wants_more {
            budget.lock().deposit(Instant::now());
            return result;
        }
        if !replay.is_kept() {
            return result;
        }
        if !budget.lock().withdraw(Instant::now()) {
            series.no_budget.incr();
            return result;
        }
        tries.record.try_failed(&outcome(&result));
        series.retryable.incr();
        is_first = false;
    }
}

/// What called for another try, in words.
fn outcome(result: &Result<Response<Body>, Ended>) -> String {
    match result {
        Ok(response) => match grpc_status(response.headers()) {
            Some(code) => format!("answered gRPC status {code}"),
            None => format!("answered status {}", response.status().as_u16()),
        },
        Err(Ended::Failed(failure)) => failure.to_string(),
        Err(Ended::Reset(error)) => error.to_string(),
    }
}

/// Whether an outcome calls for another try, with the outcome as far as it had to be read to tell.
async fn judge(
    result: Result<Response<Body>, Ended>,
    replay: &Replay,
    wants: impl Fn(ResponseHead) -> bool,
    watches_trailers: bool,
) -> (Result<Response<Body>, Ended>, bool) {
    let response = match result {
        Ok(response) => response,
        Err(Ended::Failed(Failure::FailFast | Failure::TimedOut(Expired::ResponseHeaders))) => {
            return (result, true);
        }
        Err(ended) => {
            let refused = ended.is_refused();
            return (Err(ended), refused);
        }
    };
    // An answer before the end of the request: the endpoint has seen what no other try would.
    if !replay.is_whole() {
        return (Ok(response), false);
    }
    let is_grpc = is_grpc(response.headers());
    let grpc_status = if is_grpc { grpc_status(response.headers()) } else { None };
    let mut head = ResponseHead { status: response.status().as_u16(), is_grpc, grpc_status };
    if wants(head) {
        return (Ok(response), true);
    }
    if !watches_trailers || !is_grpc || grpc_status.is_some() {
        return (Ok(response), false);
    }
    let (parts, body) = response.into_parts();
    let body = body.peek(&mut head).await;
    let wants_more = wants(head);
    (Ok(Response::from_parts(parts, body)), wants_more)
}
