//! Backends and their distributions as every protocol's messages spell them.

use std::time::Duration;

use weft_proto::linkerd::outbound::{self as wire, backend};

use super::Balancing;
use crate::{
    balance::{Load, Penalty},
    breaker::Accrual,
};

pub fn balancing(balancer: &backend::BalanceP2c, accrual: Option<Accrual>) -> Result<Balancing, String> {
    use backend::{balance_p2c, endpoint_discovery::Kind};
    let discovery = balancer.discovery.as_ref().and_then(|d| d.kind.as_ref()).ok_or("balancer has no discovery")?;
    let Kind::Dst(dst) = discovery;
    let load = match balancer.load.as_ref().ok_or("balancer has no load")? {
        balance_p2c::Load::PeakEwma(load) => Load {
            default_rtt: wanted(load.default_rtt, "the default RTT of a load")?,
            decay: wanted(load.decay, "the decay of a load")?,
            penalty: None,
        },
        balance_p2c::Load::PenaltyPeakEwma(load) => {
            let time = |given: Option<prost_types::Duration>, default_ms, what| match given {
                None => Ok(Duration::from_millis(default_ms)),
                given => wanted(given, what),
            };
            let penalty = Penalty {
                rtt: time(load.penalty, 5_000, "the penalty of a load")?,
                max_retry_after: time(load.max_retry_after, 300_000, "the longest retry-after of a load")?,
            };
            Load {
                default_rtt: time(load.default_rtt, 30, "the default RTT of a load")?,
                decay: time(load.decay, 10_000, "the decay of a load")?,
                penalty: Some(penalty),
            }
        }
    };
    Ok(Balancing { path: dst.path.clone(), load, accrual })
}

/// A duration that a policy must give. what: names it in the complaint.
pub fn wanted(given: Option<prost_types::Duration>, what: &str) -> Result<Duration, String> {
    let given = given.ok_or_else(|| format!("{what} is missing"))?;
    Duration::try_from(given).map_err(|_| format!("{what} is negative"))
}

/// Every backend says how its requests wait. The proxy's settings say so too, and win.
pub fn has_queue(backend: &wire::Backend) -> Result<(), String> {
    let queue = backend.queue.as_ref().ok_or("backend has no queue")?;
    wanted(queue.failfast_timeout, "the failfast timeout of a backend's queue").map(drop)
}

/// What distributions of every protocol have in common.
pub enum Shape<'a, F> {
    Empty,
    First(Vec<OnTheWay<'a, F>>),
    Random(Vec<(OnTheWay<'a, F>, u32)>),
}

/// A backend and the filters on the way to it.
pub type OnTheWay<'a, F> = (Option<&'a wire::Backend>, &'a [F]);

pub trait WireDistribution {
    type Filter;
    /// None when the message says nothing.
    fn shape(&self) -> Option<Shape<'_, Self::Filter>>;
}

/// Each protocol spells the same distribution with messages of its own.
macro_rules! wire_distributions {
    ($($protocol:ident),*) => {$(
        impl WireDistribution for wire::$protocol::Distribution {
            type Filter = wire::$protocol::Filter;

            fn shape(&self) -> Option<Shape<'_, Self::Filter>> {
                use wire::$protocol::distribution::Kind;
                Some(match self.kind.as_ref()? {
                    Kind::Empty(_) => Shape::Empty,
                    Kind::FirstAvailable(first) => {
                        Shape::First(first.backends.iter().map(|b| (b.backend.as_ref(), &b.filters[..])).collect())
                    }
                    Kind::RandomAvailable(random) => Shape::Random(
                        random.backends.iter().map(|w| {
                            let one = w.backend.as_ref();
                            let backend = one.and_then(|b| b.backend.as_ref());
                            ((backend, one.map_or(&[][..], |b| &b.filters)), w.weight)
                        }).collect(),
                    ),
                })
            }
        }
    )*};
}

wire_distributions!(http_route, grpc_route, opaque_route, tls_route);
