//! One HTTP/2 connection to a server, for many requests at once. Built on h2 itself: a request, its answer and their bodies are
//! driven by the task of whoever asked, where hyper gives each request two tasks and two channels more.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::{Request, Response};
use http_body::Body as _;
use tokio::sync::{Mutex, MutexGuard};
use weft_core::{headers::strip_for_http2, http2_params::FlowControl};

use crate::{
    body::Body,
    client::{ClientSettings, SendFailure},
    conn::Conn,
    http2_bodies::{Received, Upload},
    http2_pings::Pings,
    peer_error::PeerError,
    read_count::{Counted, ReadCount},
    serve::BoxRequest,
};

/// Streams at once before the server's settings have come.
const FIRST_STREAMS: usize = 100;
/// Bytes of one stream's body that wait to be sent.
const SEND_BUFFER: usize = 1 << 20;

type Wire = Counted<Conn>;

pub struct Http2 {
    /// Held while a stream opens: those beyond the server's limit wait here, all but the first with nothing sent.
    requests: Mutex<SendRequest<Bytes>>,
    state: Arc<State>,
}

/// What the connection, those who send on it and its streams tell each other.
#[derive(Default)]
pub struct State {
    /// Takes no more requests.
    is_closed: AtomicBool,
    /// Was given up, as a ping was not answered.
    is_silent: AtomicBool,
    streams: AtomicUsize,
    /// Bytes of answers' bodies.
    data: ReadCount,
}

impl State {
    fn error(&self, error: h2::Error) -> PeerError {
        if self.is_silent.load(Relaxed) { PeerError::Silent } else { error.into() }
    }
}

/// A stream, or a part of one, that is not over.
pub struct Running(Arc<State>);

impl Running {
    fn new(state: &Arc<State>) -> Self {
        state.streams.fetch_add(1, Relaxed);
        Self(state.clone())
    }

    pub fn received(&self, data: &Bytes) {
        self.0.data.add(data.len() as u64);
    }

    pub fn error(&self, error: h2::Error) -> PeerError {
        self.0.error(error)
    }
}

impl Clone for Running {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Http2 {
    pub async fn handshake(conn: Conn, settings: &ClientSettings) -> Result<Self, h2::Error> {
        let (wire, read) = Counted::new(conn);
        let flow_control = flow_control(settings);
        let (requests, mut connection) = builder(settings, flow_control).handshake(wire).await?;
        let state = Arc::<State>::default();
        let measured = (flow_control == FlowControl::Adaptive).then(|| state.data.clone());
        let keep_alive = settings.http2.keep_alive;
        let pings = if keep_alive.is_some() || measured.is_some() { connection.ping_pong() } else { None };
        let pings = pings.map(|pings| Pings::new(pings, keep_alive.map(|asked| (asked, read)), measured));
        tokio::spawn(Driver { connection, pings, state: state.clone() });
        Ok(Self { requests: Mutex::new(requests), state })
    }

    pub fn is_closed(&self) -> bool {
        self.state.is_closed.load(Relaxed)
    }

    pub async fn send(&self, request: BoxRequest) -> Result<Response<Body>, SendFailure> {
        let mut requests = Opening(self.requests.lock().await);
        if poll_fn(|cx| requests.0.poll_ready(cx)).await.is_err() {
            self.state.is_closed.store(true, Relaxed);
            return Err(SendFailure::Unsent(request));
        }
        let failed = |error| SendFailure::Failed(self.state.error(error));
        let (head, body) = request.into_parts();
        let mut head = Request::from_parts(head, ());
        strip_for_http2(head.headers_mut());
        let is_whole = body.is_end_stream();
        let (mut response, stream) = requests.0.send_request(head, is_whole).map_err(failed)?;
        let running = Running::new(&self.state);
        // Nothing of the body before the stream is open, as one task alone may wait for a stream. What an error here means for
        // this request, its answer tells.
        let _ = poll_fn(|cx| requests.0.poll_ready(cx)).await;
        drop(requests);
        let mut upload = (!is_whole).then(|| Upload::new(body, stream, running.clone()));
        let answered = poll_fn(|cx| {
            let uploaded = upload.as_mut().map_or(Poll::Pending, |upload| Pin::new(upload).poll(cx));
            if let Poll::Ready(sent) = uploaded {
                upload = None;
                if sent.is_err() {
                    // Often the client has given up, and whoever serves it sees that before this is polled again: it is
                    // no failure of the server's, as which the reset stream would now be told.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            Pin::new(&mut response).poll(cx)
        });
        let response = answered.await.map_err(failed)?;
        if let Some(upload) = upload {
            tokio::spawn(upload);
        }
        Ok(Received::body_of(response, running))
    }
}

fn flow_control(settings: &ClientSettings) -> FlowControl {
    let &ClientSettings { stream_window, connection_window, .. } = settings;
    settings.http2.flow_control.unwrap_or(FlowControl::Fixed { stream_window, connection_window })
}

fn builder(settings: &ClientSettings, flow_control: FlowControl) -> Builder {
    let asked = &settings.http2;
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
    builder
}

/// Whose turn it is to open a stream. h2 keeps the last stream until it has opened, also when nobody wants it any more; a
/// clone keeps none.
struct Opening<'a>(MutexGuard<'a, SendRequest<Bytes>>);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let without_stream = self.0.clone();
        *self.0 = without_stream;
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
        let Some(pings) = pings else { return Poll::Pending };
        let is_busy = state.streams.load(Relaxed) > 0;
        pings.poll_silent(connection, is_busy, cx).map(|()| state.is_silent.store(true, Relaxed))
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
    use http::{HeaderMap, header};
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

    /// A server that takes one stream at a time, which its first answer keeps open.
    async fn full() -> (Arc<Http2>, Server, SendStream<Bytes>, Response<Body>) {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(1);
        let (client, mut server) = pair(builder, Http2Params::default()).await;
        let first = send(&client, get());
        let (_, respond) = server.accept().await.unwrap().unwrap();
        let open = begin(respond);
        let ((), response) = tokio::join!(nothing_comes(&mut server), answered(first));
        (client, server, open, response)
    }

    #[tokio::test]
    async fn of_requests_beyond_the_servers_limit_the_last_comes_back_when_the_server_leaves() {
        let (client, mut server, mut open, response) = full().await;
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

    #[tokio::test]
    async fn a_request_given_up_while_it_waits_is_reset_and_holds_up_none() {
        let (client, mut server, mut open, response) = full().await;
        let waiting = send(&client, post("never"));
        nothing_comes(&mut server).await;
        waiting.abort();
        assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
        open.send_data(Bytes::new(), true).unwrap();
        drop(response);
        let (given_up, _) = server.accept().await.unwrap().unwrap();
        // Nobody sends a request that would make the connection look again.
        let (_, data) = tokio::join!(tokio::time::timeout(Duration::from_millis(50), server.accept()), async {
            given_up.into_body().data().await
        });
        assert_eq!(data.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
        let _next = send(&client, get());
        assert_eq!(server.accept().await.unwrap().unwrap().0.method(), "GET");
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

    /// A ping each so many milliseconds, whose answer may take 100.
    fn pinging(every_ms: u64, while_idle: bool) -> Http2Params {
        let (interval, timeout) = (Duration::from_millis(every_ms), Duration::from_millis(100));
        Http2Params { keep_alive: Some(KeepAlive { interval, timeout, while_idle }), ..Http2Params::default() }
    }

    #[tokio::test]
    async fn a_server_that_answers_no_ping_is_given_up() {
        let (listener, addr) = listener().await;
        let idle = connect(addr, pinging(20, false)).await;
        let _silent = listener.accept().await.unwrap();
        let watched = connect(addr, pinging(20, true)).await;
        let _silent_too = listener.accept().await.unwrap();
        while !watched.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!idle.is_closed(), "nothing was asked of it");
        assert!(matches!(send(&idle, get()).await.unwrap(), Err(SendFailure::Failed(_))));
        assert!(idle.is_closed());
    }

    #[tokio::test]
    async fn a_stream_is_watched_whoever_may_still_send_on_its_connection() {
        let (client, mut server) = pair(server::Builder::new(), pinging(20, false)).await;
        let sent = send(&client, get());
        let (_, respond) = server.accept().await.unwrap().unwrap();
        let _stream = begin(respond);
        let (_, mut body) = tokio::join!(tokio::time::timeout(Duration::from_millis(50), server.accept()), async {
            answered(sent).await.into_body()
        });
        drop(client);
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("without an answer"), "{error}");
    }

    #[tokio::test]
    async fn pings_that_are_answered_keep_the_connection() {
        let (client, mut server) = pair(server::Builder::new(), pinging(10, true)).await;
        let serving = tokio::spawn(async move { while server.accept().await.is_some() {} });
        tokio::time::sleep(Duration::from_millis(500)).await;
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
