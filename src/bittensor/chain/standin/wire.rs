//! The websocket under the stand-in.

use std::sync::Arc;

use parking_lot::Mutex;
use soketto::handshake::Server as Handshake;
use soketto::handshake::server::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::{Reaction, Server};

/// Starts to serve on a thread of its own; the address.
pub(super) fn start(server: Arc<Mutex<Server>>) -> String {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(talk(stream, Arc::clone(&server)));
            }
        });
    };
    std::thread::Builder::new().name("standin".into()).spawn(serve).unwrap();
    format!("ws://{}", told.recv().unwrap())
}

/// Talks with one client until either leaves.
async fn talk(stream: TcpStream, server: Arc<Mutex<Server>>) {
    let mut handshake = Handshake::new(stream.compat());
    let Ok(request) = handshake.receive_request().await else { return };
    let accept = Response::Accept { key: request.key(), protocol: None };
    handshake.send_response(&accept).await.unwrap();
    let (mut sender, mut receiver) = handshake.into_builder().finish();
    loop {
        let mut message = Vec::new();
        if receiver.receive_data(&mut message).await.is_err() {
            return;
        }
        let request = serde_json::from_slice(&message).unwrap();
        let reaction = server.lock().react(&request);
        match reaction {
            Reaction::Hangs => {}
            Reaction::Cuts => return,
            Reaction::Says(messages) => {
                for message in messages {
                    if sender.send_text(message.to_string()).await.is_err() {
                        return;
                    }
                    let _ = sender.flush().await;
                }
            }
        }
    }
}
