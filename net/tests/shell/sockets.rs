//! Listening on a shared port, and connections that move between executors.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use net::shell::{attach, detach, listen};

use crate::on_an_executor;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn a_port_is_shared_with_listeners_like_it_and_with_nobody_else() {
    on_an_executor(async {
        let first = listen(any_port()).expect("a listener");
        let address = first.local_addr().expect("an address");
        let second = listen(address).expect("the same port again");
        assert_eq!(second.local_addr().expect("an address"), address);
        let stranger = std::net::TcpListener::bind(any_port()).expect("a listener");
        let taken = stranger.local_addr().expect("an address");
        let error = listen(taken).expect_err("a port that somebody does not share");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_connection_goes_on_on_another_executor() {
    let (detached, caller): (OwnedFd, OwnedFd) = {
        let mut moved = None;
        on_an_executor(async {
            let listener = listen(any_port()).expect("a listener");
            let address = listener.local_addr().expect("an address");
            let connecting = TcpStream::connect(address);
            let (caller, called) = futures_lite::future::zip(connecting, listener.accept()).await;
            let (mut caller, mut called) = (caller.expect("a connection"), called.expect("a connection"));
            caller.write_all(b"hello frames").await.expect("an open connection");
            let mut hello = [0; 5];
            called.read_exact(&mut hello).await.expect("an open connection");
            assert_eq!(&hello, b"hello");
            moved = Some((detach(&called).expect("a descriptor"), detach(&caller).expect("a descriptor")));
        });
        moved.expect("a connection")
    };
    on_an_executor(async {
        let (mut called, mut caller) = (attach(detached), attach(caller));
        let mut rest = [0; 7];
        called.read_exact(&mut rest).await.expect("an open connection");
        assert_eq!(&rest, b" frames", "nothing was lost in between");
        called.write_all(b"back").await.expect("an open connection");
        drop(called);
        let mut back = Vec::new();
        caller.read_to_end(&mut back).await.expect("an open connection");
        assert_eq!(back, b"back");
    });
}
