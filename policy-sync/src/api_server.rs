// SPDX-License-Identifier: Apache-2.0
//! The API server, and how long it may take to answer.

use std::time::Duration;

use anyhow::Context;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

/// How long the head of an answer may take. The API server itself ends what takes more than 60 s (its `--request-timeout`),
/// and a watch's head comes before its first event; who waits longer than that waits for a connection that is dead. The
/// client library alone would wait 295 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(65);

/// A client of the API server that this process was set up for: its service account's in a pod, else a kubeconfig's.
pub async fn client() -> anyhow::Result<Client> {
    let config = Config::infer()
        .await
        .context("how to reach the API server")?;
    client_for(config, ANSWER_WITHIN)
}

fn client_for(config: Config, answer_within: Duration) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(config).context("how to reach the API server")?;
    Ok(builder
        .with_layer(&TimeoutLayer::new(answer_within))
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_takes_the_connection_and_never_answers_is_an_error() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let client = client_for(
            Config::new(url.parse().unwrap()),
            Duration::from_millis(100),
        )
        .unwrap();
        let answer = client.apiserver_version();
        let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
        let error = answer.expect("an end of its own").unwrap_err();
        assert!(matches!(error, kube::Error::Service(_)), "{error:?}");
        assert!(error.to_string().contains("timed out"), "{error}");
    }
}
