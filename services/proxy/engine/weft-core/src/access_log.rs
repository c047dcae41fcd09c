//! One line per inbound request, in the two forms of observability.md 7.2.

use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    Apache,
    Json,
}

/// What is known of a request when it arrives.
#[derive(Clone, Debug)]
pub struct AccessEntry {
    pub client: SocketAddr,
    pub client_id: Option<String>,
    pub at: SystemTime,
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub host: String,
    user_agent: Option<HeaderValue>,
    trace_id: Option<HeaderValue>,
    request_bytes: Option<HeaderValue>,
}

/// What is known when the response headers are.
#[derive(Clone, Debug)]
pub struct AccessAnswer {
    pub status: u16,
    /// From arrival to response headers.
    pub total: Duration,
    /// Of it, what was spent working rather than waiting.
    pub processing: Duration,
    response_bytes: Option<HeaderValue>,
}

impl AccessAnswer {
    pub fn new(status: u16, headers: &HeaderMap, total: Duration, processing: Duration) -> Self {
        Self { status, total, processing, response_bytes: headers.get(header::CONTENT_LENGTH).cloned() }
    }
}

impl AccessEntry {
    #[expect(clippy::too_many_arguments, reason = "each is one column")]
    pub fn new(
        client: SocketAddr,
        client_id: Option<String>,
        at: SystemTime,
        method: Method,
        uri: Uri,
        version: Version,
        host: &str,
        headers: &HeaderMap,
    ) -> Self {
        let trace_id = ["x-b3-traceid", "x-request-id", "x-amzn-trace-id"].iter().find_map(|name| headers.get(*name));
        Self {
            client,
            client_id,
            at,
            method,
            uri,
            version,
            host: host.to_owned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            trace_id: trace_id.cloned(),
            request_bytes: headers.get(header::CONTENT_LENGTH).cloned(),
        }
    }

    /// answer: None when the call failed before it had one.
    pub fn line(&self, format: AccessLogFormat, answer: Option<&AccessAnswer>) -> String {
        match format {
            AccessLogFormat::Apache => self.apache(answer),
            AccessLogFormat::Json => self.json(answer),
        }
    }

    fn timestamp(&self) -> String {
        prost_types::Timestamp::from(self.at).to_string()
    }

    fn apache(&self, answer: Option<&AccessAnswer>) -> String {
        let status = answer.map_or_else(|| "-".to_owned(), |answer| answer.status.to_string());
        let (client, id) = (self.client, self.client_id.as_deref().unwrap_or("-"));
        // What a client chose must not begin a line or end a quote.
        let uri = escaped(&self.uri.to_string());
        format!("{client} {id} - [{}] \"{} {uri} {:?}\" {status}", self.timestamp(), self.method, self.version)
    }

    fn json(&self, answer: Option<&AccessAnswer>) -> String {
        let mut out = String::with_capacity(512);
        let text =
            |value: &Option<HeaderValue>| value.as_ref().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let mut put = |key: &str, value: &str| {
            let _ = write!(out, "{}\"{key}\":\"{}\"", if out.is_empty() { "{" } else { "," }, escaped(value));
        };
        put("client.addr", &self.client.to_string());
        put("client.id", self.client_id.as_deref().unwrap_or("-"));
        put("timestamp", &self.timestamp());
        put("method", self.method.as_str());
        put("uri", &self.uri.to_string());
        put("version", &format!("{:?}", self.version));
        put("host", &self.host);
        put("user_agent", &text(&self.user_agent).unwrap_or_default());
        put("trace_id", &text(&self.trace_id).unwrap_or_default());
        put("request_bytes", &text(&self.request_bytes).unwrap_or_default());
        if let Some(answer) = answer {
            if let Some(bytes) = text(&answer.response_bytes) {
                put("response_bytes", &bytes);
            }
            put("total_ns", &answer.total.as_nanos().to_string());
            put("processing_ns", &answer.processing.as_nanos().to_string());
            let _ = write!(out, ",\"status\":{}", answer.status);
        }
        out.push('}');
        out
    }
}

/// As JSON wants it inside quotes, which also keeps a line of the other form whole.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AccessEntry {
        let headers = [("user-agent", "curl \"8\""), ("x-request-id", "r-1"), ("content-length", "5")];
        let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        AccessEntry::new(
            "10.0.0.9:5000".parse().unwrap(),
            Some("cart.shop".to_owned()),
            SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            Method::POST,
            "/a?b=c".parse().unwrap(),
            Version::HTTP_11,
            "price.shop",
            &headers,
        )
    }

    fn answer() -> AccessAnswer {
        let headers = [(header::CONTENT_LENGTH, HeaderValue::from_static("12"))].into_iter().collect();
        AccessAnswer::new(200, &headers, Duration::from_micros(1500), Duration::from_micros(90))
    }

    #[test]
    fn the_apache_form_names_client_request_and_status() {
        assert_eq!(
            entry().line(AccessLogFormat::Apache, Some(&answer())),
            "10.0.0.9:5000 cart.shop - [1970-01-01T00:00:01.500Z] \"POST /a?b=c HTTP/1.1\" 200"
        );
    }

    #[test]
    fn the_json_form_has_only_the_status_as_a_number() {
        assert_eq!(
            entry().line(AccessLogFormat::Json, Some(&answer())),
            concat!(
                r#"{"client.addr":"10.0.0.9:5000","client.id":"cart.shop","timestamp":"1970-01-01T00:00:01.500Z","#,
                r#""method":"POST","uri":"/a?b=c","version":"HTTP/1.1","host":"price.shop","user_agent":"curl \"8\"","#,
                r#""trace_id":"r-1","request_bytes":"5","response_bytes":"12","total_ns":"1500000","#,
                r#""processing_ns":"90000","status":200}"#
            )
        );
    }

    #[test]
    fn a_failed_call_has_no_status_size_or_duration() {
        let line = entry().line(AccessLogFormat::Json, None);
        assert!(line.ends_with(r#""request_bytes":"5"}"#), "{line}");
        assert!(entry().line(AccessLogFormat::Apache, None).ends_with("\" -"));
    }

    #[test]
    fn control_characters_cannot_begin_a_line_of_their_own() {
        assert_eq!(escaped("a\nb\"\u{1b}"), "a\\u000ab\\\"\\u001b");
    }
}
