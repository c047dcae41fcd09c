//! One HTTP/2 connection to a server, for many requests at once. Built on h2 itself: a request, its answer and their bodies are
//! driven by the task of whoever asked, where hyper gives each request two tasks and two channels more.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::{HeaderMap, Request, Response, header};
use http_body::Body as _;
use tokio::sync::Mutex;
use weft_core::http2_params::FlowControl;

use crate::{
    body::Body,
    client::{ClientSettings, SendFailure},
    conn::Conn,
    http2_bodies::{Received, Upload},
    http2_pings::Pings,
    read_count::Counted,
    serve::BoxRequest,
};

/// Streams at once before the server's settings have come.
const FIRST_STREAMS: usize = 100;
/// Bytes of one stream's body that wait to be sent.
const SEND_BUFFER: usize = 1 << 20;

type Wire = Counted<Conn>;

pub struct Http2 {
    /// Held while a stream opens: those beyond the server's limit wait here, with nothing of them sent.
    requests: Mutex<SendRequest<Bytes>>,
    state: Arc<State>,
}

/// Held by the connection, by whoever may send on it, and by each stream until its answer has ended.
#[derive(Default)]
pub struct State {
    /// Takes no more requests.
    is_closed: AtomicBool,
}

impl State {
    fn has_streams(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 2
    }
}

impl Http2 {
    pub async fn handshake(conn: Conn, settings: &ClientSettings) -> Result<Self, h2::Error> {
        let (wire, read) = Counted::new(conn);
        let asked = &settings.http2;
        let own =
            FlowControl::Fixed { stream_window: settings.stream_window, connection_window: settings.connection_window };
        let flow_control = asked.flow_control.unwrap_or(own);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_header_list_size(settings.max_header_bytes as u32)
            .max_send_buffer_size(asked.max_send_buf_size.unwrap_or(SEND_BUFFER));
        if let FlowControl::Fixed { stream_window, connection_window } = flow_control {
            builder.initial_window_size(stream_window).initial_connection_window_size(connection_window);
        }
        if let Some(bytes) = asked.max_frame_size {
            builder.max_frame_size(bytes);
        }
        if let Some(streams) = asked.max_concurrent_reset_streams {
            builder.max_concurrent_reset_streams(streams);
        }
        let (requests, mut connection) = builder.handshake(wire).await?;
        let pings = match (asked.keep_alive, flow_control) {
            (None, FlowControl::Fixed { .. }) => None,
            (keep_alive, flow_control) => connection
                .ping_pong()
                .map(|pings| Pings::new(pings, read, keep_alive, flow_control == FlowControl::Adaptive)),
        };
        let state = Arc::<State>::default();
        tokio::spawn(Driver { connection, pings, state: state.clone() });
        Ok(Self { requests: Mutex::new(requests), state })
    }

    pub fn is_closed(&self) -> bool {
        self.state.is_closed.load(Relaxed)
    }

    pub async fn send(&self, request: BoxRequest) -> Result<Response<Body>, SendFailure> {
        let mut requests = self.requests.lock().await;
        if poll_fn(|cx| requests.poll_ready(cx)).await.is_err() {
            self.state.is_closed.store(true, Relaxed);
            return Err(SendFailure::Unsent(request));
        }
        let (head, body) = request.into_parts();
        let mut head = Request::from_parts(head, ());
        strip(head.headers_mut());
        let is_whole = body.is_end_stream();
        let (mut response, stream) = requests.send_request(head, is_whole).map_err(failed)?;
        // Nothing of the body before the stream is open: one task alone may wait for a stream.
        poll_fn(|cx| requests.poll_ready(cx)).await.map_err(failed)?;
        drop(requests);
        let state = self.state.clone();
        let mut upload = (!is_whole).then(|| Upload::new(body, stream));
        let answered = poll_fn(|cx| {
            if upload.as_mut().is_some_and(|upload| Pin::new(upload).poll(cx).is_ready()) {
                upload = None;
            }
            Pin::new(&mut response).poll(cx)
        });
        let response = answered.await.map_err(failed)?;
        if let Some(upload) = upload {
            tokio::spawn(upload);
        }
        Ok(Received::body_of(response, state))
    }
}

fn failed(error: h2::Error) -> SendFailure {
    SendFailure::Failed(error.into())
}

/// What HTTP/1 says of its connection, HTTP/2 does not carry (RFC 9113 8.2.2).
fn strip(headers: &mut HeaderMap) {
    headers.remove(header::TRANSFER_ENCODING);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// Reads and writes for all streams, until the connection ends.
struct Driver {
    connection: Connection<Wire, Bytes>,
    pings: Option<Pings>,
    state: Arc<State>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { connection, pings, state } = &mut *self;
        // Why it ended is what its streams are told.
        if Pin::new(&mut *connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match pings {
            Some(pings) => pings.poll_silent(connection, state.has_streams(), cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.state.is_closed.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use bytes::BytesMut;
    use h2::{Reason, SendStream, server};
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use weft_core::http2_params::{Http2Params, KeepAlive};

    use super::*;
    use crate::conn::{Rewound, Transport};

    type Server = server::Connection<TcpStream, Bytes>;

    fn settings(http2: Http2Params) -> ClientSettings {
        ClientSettings {
            stream_window: 65_535,
            connection_window: 65_535,
            pool_idle: Duration::from_secs(1),
            max_idle: 1,
            max_header_bytes: 65_536,
            http2,
        }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    async fn connect(addr: SocketAddr, http2: Http2Params) -> Arc<Http2> {
        let io = TcpStream::connect(addr).await.unwrap();
        let conn = Conn::new(Transport::Plain(Rewound { seen: BytesMut::new(), io }));
        Arc::new(Http2::handshake(conn, &settings(http2)).await.unwrap())
    }

    /// A connection, and its server before it takes the first request.
    async fn pair(builder: server::Builder, http2: Http2Params) -> (Arc<Http2>, Server) {
        let (listener, addr) = listener().await;
        let accepted = async { builder.handshake(listener.accept().await.unwrap().0).await.unwrap() };
        tokio::join!(connect(addr, http2), accepted)
    }

    fn get() -> BoxRequest {
        Box::new(Request::get("http://web.shop/").body(Body::empty()).unwrap())
    }

    fn post(body: &'static str) -> BoxRequest {
        Box::new(Request::post("http://web.shop/").body(Body::full(Bytes::from_static(body.as_bytes()))).unwrap())
    }

    fn send(client: &Arc<Http2>, request: BoxRequest) -> tokio::task::JoinHandle<Result<Response<Body>, SendFailure>> {
        let client = client.clone();
        tokio::spawn(async move { client.send(request).await })
    }

    async fn answered(task: tokio::task::JoinHandle<Result<Response<Body>, SendFailure>>) -> Response<Body> {
        task.await.unwrap().ok().expect("an answer")
    }

    /// Answers with a first byte and leaves the body open.
    fn begin(mut respond: server::SendResponse<Bytes>) -> SendStream<Bytes> {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"1"), false).unwrap();
        stream
    }

    #[tokio::test]
    async fn bodies_and_trailers_pass_both_ways() {
        let (client, mut server) = pair(server::Builder::new(), Http2Params::default()).await;
        let sent = send(&client, post("ping"));
        let (request, respond) = server.accept().await.unwrap().unwrap();
        let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
        assert_eq!(request.into_body().data().await.unwrap().unwrap(), "ping");
        let mut stream = begin(respond);
        stream.send_trailers(HeaderMap::from_iter([(header::ETAG, "x".parse().unwrap())])).unwrap();
        let body = answered(sent).await.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[header::ETAG], "x");
        assert_eq!(body.to_bytes(), "1");
        serving.abort();
    }

    #[tokio::test]
    async fn requests_beyond_the_servers_limit_wait_and_come_back_when_the_server_leaves() {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(1);
        let (client, mut server) = pair(builder, Http2Params::default()).await;
        let first = send(&client, get());
        let (_, respond) = server.accept().await.unwrap().unwrap();
        let mut open = begin(respond);
        let ((), response) = tokio::join!(nothing_comes(&mut server), answered(first));
        // One that h2 holds until it may open, and one behind it.
        let (held, behind) = (send(&client, get()), send(&client, get()));
        nothing_comes(&mut server).await;
        open.send_data(Bytes::new(), true).unwrap();
        drop(response);
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let last = send(&client, get());
        server.graceful_shutdown();
        nothing_comes(&mut server).await;
        respond.send_response(Response::new(()), true).unwrap();
        while server.accept().await.is_some() {}
        assert_eq!(answered(held).await.status(), 200);
        assert!(behind.await.unwrap().is_err());
        assert!(matches!(last.await.unwrap(), Err(SendFailure::Unsent(_))));
        assert!(client.is_closed());
    }

    async fn nothing_comes(server: &mut Server) {
        let asked = tokio::time::timeout(Duration::from_millis(50), server.accept()).await;
        assert!(asked.is_err(), "one request at a time");
    }

    #[tokio::test]
    async fn an_answer_ahead_of_its_requests_end_leaves_the_rest_on_its_way() {
        let (client, mut server) = pair(server::Builder::new(), Http2Params::default()).await;
        // More than the server's windows take at once.
        let body = Body::full(Bytes::from(vec![b'x'; 200_000]));
        let sent = send(&client, Box::new(Request::post("http://web.shop/").body(body).unwrap()));
        let (request, respond) = server.accept().await.unwrap().unwrap();
        let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
        let _stream = begin(respond);
        let _response = answered(sent).await;
        let (mut body, mut count) = (request.into_body(), 0);
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            count += data.len();
        }
        assert_eq!(count, 200_000);
        serving.abort();
    }

    #[tokio::test]
    async fn a_reset_keeps_its_reason_and_an_early_end_without_error_is_an_end() {
        for (reason, ends_well) in [(Reason::NO_ERROR, true), (Reason::CANCEL, false)] {
            let (client, mut server) = pair(server::Builder::new(), Http2Params::default()).await;
            let sent = send(&client, get());
            let (_, respond) = server.accept().await.unwrap().unwrap();
            let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
            let mut stream = begin(respond);
            let mut body = answered(sent).await.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "1");
            stream.send_reset(reason);
            match body.frame().await {
                None => assert!(ends_well),
                Some(frame) => assert_eq!((frame.unwrap_err().reset_reason(), ends_well), (reason, false)),
            }
            serving.abort();
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_no_ping_is_given_up() {
        let keep_alive = |while_idle| {
            let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(100));
            Http2Params { keep_alive: Some(KeepAlive { interval, timeout, while_idle }), ..Http2Params::default() }
        };
        let (listener, addr) = listener().await;
        let idle = connect(addr, keep_alive(false)).await;
        let _silent = listener.accept().await.unwrap();
        let watched = connect(addr, keep_alive(true)).await;
        let _silent_too = listener.accept().await.unwrap();
        while !watched.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!idle.is_closed(), "nothing was asked of it");
        assert!(matches!(send(&idle, get()).await.unwrap(), Err(SendFailure::Failed(_))));
        assert!(idle.is_closed());
    }

    #[tokio::test]
    async fn a_ping_that_is_answered_keeps_the_connection() {
        let (interval, timeout) = (Duration::from_millis(5), Duration::from_secs(5));
        let asked = Http2Params {
            keep_alive: Some(KeepAlive { interval, timeout, while_idle: true }),
            ..Http2Params::default()
        };
        let (client, mut server) = pair(server::Builder::new(), asked).await;
        let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!client.is_closed());
        serving.abort();
    }

    /// Bytes to and from a server, each some milliseconds late.
    async fn far_away(server: SocketAddr) -> SocketAddr {
        let (listener, addr) = listener().await;
        tokio::spawn(async move {
            let near = listener.accept().await.unwrap().0.into_split();
            let far = TcpStream::connect(server).await.unwrap().into_split();
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                tokio::spawn(async move {
                    let mut bytes = vec![0; 1 << 20];
                    while let Ok(count @ 1..) = from.read(&mut bytes).await {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        if to.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        addr
    }

    #[tokio::test]
    async fn an_adaptive_window_opens_further_than_it_began() {
        let asked = Http2Params { flow_control: Some(FlowControl::Adaptive), ..Http2Params::default() };
        let (listener, addr) = listener().await;
        let relay = far_away(addr).await;
        let accepted = async { server::handshake(listener.accept().await.unwrap().0).await.unwrap() };
        let (client, mut server): (_, Server) = tokio::join!(connect(relay, asked), accepted);
        let sent = send(&client, get());
        let (_, respond) = server.accept().await.unwrap().unwrap();
        let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
        let mut stream = begin(respond);
        let mut body = answered(sent).await.into_body();
        let reading = tokio::spawn(async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} });
        let growing = async {
            loop {
                stream.reserve_capacity(1 << 20);
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                if room > 65_535 {
                    return;
                }
                stream.send_data(Bytes::from(vec![0; room]), false).unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), growing).await.expect("it opens");
        reading.abort();
        serving.abort();
    }
}
