//! One connection to a node, and what went wrong on it last.
//!
//! The layers above tell failures as text; whether the connection broke or the node refused is
//! known only here, so here it is remembered.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use subxt::ext::futures::StreamExt as _;
use subxt::ext::jsonrpsee::client_transport::ws::{Url, WsTransportClientBuilder};
use subxt::ext::jsonrpsee::core::client::Client;
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue, RpcClientT};
use subxt::rpcs::{Error as RpcError, RpcClient};

use super::error::{ChainError, Fault};
use super::limits::{MAX_REPLY, MAX_REQUEST};

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection broke.
    Broken(String),
    /// The node answered with an error: the code, the message with its details.
    Refused(i32, String),
}

/// What went wrong last on a connection.
#[derive(Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<Option<Trouble>>>);

impl Troubles {
    /// What was wrong with the last request, if this was not asked since.
    pub(super) fn take(&self) -> Option<Trouble> {
        self.0.lock().take()
    }

    fn note<T>(&self, outcome: Result<T, RpcError>) -> Result<T, RpcError> {
        *self.0.lock() = outcome.as_ref().err().map(trouble);
        outcome
    }
}

fn trouble(error: &RpcError) -> Trouble {
    match error {
        RpcError::User(refusal) => {
            let data = refusal.data.as_ref().map(|data| data.get().trim_matches('"').to_owned());
            let text = [Some(refusal.message.clone()), data];
            Trouble::Refused(
                refusal.code,
                text.into_iter().flatten().collect::<Vec<_>>().join(": "),
            )
        }
        other => Trouble::Broken(other.to_string()),
    }
}

/// Connects. What comes back makes requests; its troubles are noted.
pub(super) async fn connect(
    url: Url,
    node: &str,
    within: Duration,
) -> Result<(RpcClient, Troubles), ChainError> {
    let transport = WsTransportClientBuilder::default()
        .connection_timeout(within)
        .max_request_size(MAX_REQUEST)
        .max_response_size(MAX_REPLY)
        // One address is tried, the one we were told: a node that sends us elsewhere is refused.
        .max_redirections(1);
    // Looking a name up blocks the thread, which may be one that must not be blocked. The other
    // thread keeps its own time, and ends when nobody waits for it any more.
    let (mut asker, _asking) = tokio::sync::oneshot::channel::<()>();
    let runtime = tokio::runtime::Handle::current();
    let connecting = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let build = tokio::time::timeout(within, transport.build(url));
            tokio::select! {
                built = build => Some(built),
                () = asker.closed() => None,
            }
        })
    });
    let unreachable = |why: &dyn Display| {
        ChainError::new(Fault::Unreachable, format!("no connection to {node}: {why}"))
    };
    let (sender, receiver) = connecting
        .await
        .map_err(|error| unreachable(&error))?
        .and_then(Result::ok)
        .ok_or_else(|| ChainError::slow(node, within))?
        .map_err(|error| unreachable(&error))?;
    // Whoever asks gives up first, and knows better what it means.
    let client = Client::builder().request_timeout(2 * within).build_with_tokio(sender, receiver);
    let troubles = Troubles::default();
    let line = Line { client, troubles: troubles.clone() };
    Ok((RpcClient::new(line), troubles))
}

struct Line {
    client: Client,
    troubles: Troubles,
}

impl RpcClientT for Line {
    fn request_raw<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> RawRpcFuture<'a, Box<RawValue>> {
        Box::pin(async move {
            self.troubles.note(RpcClientT::request_raw(&self.client, method, params).await)
        })
    }

    fn subscribe_raw<'a>(
        &'a self,
        sub: &'a str,
        params: Option<Box<RawValue>>,
        unsub: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        Box::pin(async move {
            let subscribed = RpcClientT::subscribe_raw(&self.client, sub, params, unsub).await;
            let RawRpcSubscription { stream, id } = self.troubles.note(subscribed)?;
            let troubles = self.troubles.clone();
            let stream = stream.map(move |item| troubles.note(item)).boxed();
            Ok(RawRpcSubscription { stream, id })
        })
    }
}
