//! What discovery asks of HTTP/2 connections to an endpoint; what it leaves out is as this proxy's settings say
//! (wire.md 2.3).

use std::time::Duration;

use weft_proto::linkerd::destination::{Http2ClientParams, http2_client_params as wire};

/// Limits of RFC 9113: 6.9.1, 6.5.2.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const FRAME_SIZES: std::ops::RangeInclusive<u32> = 1 << 14..=(1 << 24) - 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2Params {
    pub flow_control: Option<FlowControl>,
    pub keep_alive: Option<KeepAlive>,
    pub max_concurrent_reset_streams: Option<usize>,
    pub max_frame_size: Option<u32>,
    pub max_send_buf_size: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowControl {
    Adaptive,
    /// Bytes.
    Fixed {
        stream_window: u32,
        connection_window: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between pings.
    pub interval: Duration,
    /// A ping that is not answered for so long ends the connection.
    pub timeout: Duration,
    /// Also while no request is running.
    pub while_idle: bool,
}

impl Http2Params {
    /// Total: a part that makes no sense is left out.
    pub fn from_wire(params: &Http2ClientParams) -> Self {
        let internals = params.internals.unwrap_or_default();
        let size = |bytes: u32| Some(bytes as usize).filter(|bytes| *bytes > 0);
        Self {
            flow_control: params.flow_control.and_then(flow_control),
            keep_alive: params.keep_alive.and_then(keep_alive),
            max_concurrent_reset_streams: size(internals.max_concurrent_reset_streams),
            max_frame_size: Some(internals.max_frame_size).filter(|size| FRAME_SIZES.contains(size)),
            max_send_buf_size: size(internals.max_send_buf_size),
        }
    }
}

/// Counts only when it is adaptive or names both windows.
fn flow_control(asked: wire::FlowControl) -> Option<FlowControl> {
    if asked.adaptive_flow_control {
        return Some(FlowControl::Adaptive);
    }
    let window = |bytes: u32| Some(bytes.min(LARGEST_WINDOW)).filter(|bytes| *bytes > 0);
    Some(FlowControl::Fixed {
        stream_window: window(asked.initial_stream_window_size)?,
        connection_window: window(asked.initial_connection_window_size)?,
    })
}

/// Counts only when it names both times.
fn keep_alive(asked: wire::KeepAlive) -> Option<KeepAlive> {
    let time = |time: Option<prost_types::Duration>| {
        time.and_then(|time| Duration::try_from(time).ok()).filter(|time| !time.is_zero())
    };
    Some(KeepAlive { interval: time(asked.interval)?, timeout: time(asked.timeout)?, while_idle: asked.while_idle })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(
        flow_control: Option<wire::FlowControl>,
        keep_alive: Option<wire::KeepAlive>,
        internals: Option<wire::Internals>,
    ) -> Http2Params {
        Http2Params::from_wire(&Http2ClientParams { flow_control, keep_alive, internals })
    }

    #[test]
    fn windows_count_together_or_when_they_adapt() {
        for (connection, stream, adaptive, expected) in [
            (0, 0, true, Some(FlowControl::Adaptive)),
            (1, 0, false, None),
            (0, 1, false, None),
            (2, 1, false, Some(FlowControl::Fixed { stream_window: 1, connection_window: 2 })),
            (u32::MAX, 1, false, Some(FlowControl::Fixed { stream_window: 1, connection_window: LARGEST_WINDOW })),
        ] {
            let asked = wire::FlowControl {
                initial_connection_window_size: connection,
                initial_stream_window_size: stream,
                adaptive_flow_control: adaptive,
            };
            assert_eq!(from(Some(asked), None, None).flow_control, expected);
        }
    }

    #[test]
    fn pings_need_both_their_times() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (interval, timeout, counts) in [
            (seconds(10), seconds(3), true),
            (seconds(10), None, false),
            (None, seconds(3), false),
            (seconds(0), seconds(3), false),
            (seconds(-1), seconds(3), false),
        ] {
            let asked = wire::KeepAlive { interval, timeout, while_idle: true };
            let expected = counts.then_some(KeepAlive {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(3),
                while_idle: true,
            });
            assert_eq!(from(None, Some(asked), None).keep_alive, expected);
        }
    }

    #[test]
    fn sizes_outside_the_protocol_are_left_out() {
        let asked = |max_frame_size| wire::Internals { max_frame_size, ..wire::Internals::default() };
        assert_eq!(from(None, None, Some(asked(16_384))).max_frame_size, Some(16_384));
        for size in [0, 16_383, 16_777_216] {
            assert_eq!(from(None, None, Some(asked(size))), Http2Params::default());
        }
    }
}
