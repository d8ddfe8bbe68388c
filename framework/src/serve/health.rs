//! What `/livez` and `/readyz` say: whether the process lives, whether requests are welcome, and what its checks found.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_std::future::timeout;
use futures_lite::{future, FutureExt};
use hyper::header::{HeaderValue, CACHE_CONTROL, CONTENT_TYPE};
use hyper::StatusCode;
use serde::Serialize;

use super::dispatcher::Readiness;
use super::generation::Generation;
use crate::app::Check;
use crate::error::{chain, panic_text};
use crate::http::ResponseBody;

#[derive(Serialize)]
struct Report<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Found<'a>>,
}

/// What a check has found.
#[derive(Serialize)]
struct Found<'a> {
    name: &'a str,
    status: &'static str,
    took_ms: u64,
    /// In a debug build; a release build tells its log alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The process answers: it lives.
pub(super) fn live() -> hyper::Response<ResponseBody> {
    let report = Report {
        status: "alive",
        generation: None,
        checks: vec![],
    };
    answer(StatusCode::OK, &report)
}

/// Whether requests are welcome. Checks run only where nothing else speaks against it, all at once.
pub(super) async fn ready(
    readiness: Readiness,
    generation: Arc<Generation>,
) -> hyper::Response<ResponseBody> {
    let number = Some(generation.number);
    let no = match readiness {
        Readiness::Ready => None,
        Readiness::Paused => Some("paused"),
        Readiness::Leaving => Some("leaving"),
    };
    if let Some(status) = no {
        let report = Report {
            status,
            generation: number,
            checks: vec![],
        };
        return answer(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let checks = all(generation.checks.iter().map(run).collect()).await;
    let (code, status) = match checks.iter().all(|check| check.status == "ok") {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
    };
    answer(
        code,
        &Report {
            status,
            generation: number,
            checks,
        },
    )
}

/// Waits for all of them at once.
async fn all<T>(futures: Vec<impl std::future::Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(found) => *done = Some(found),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

async fn run(check: &Check) -> Found<'_> {
    let begun = Instant::now();
    // called within the future: a panic of the call is the check's, too
    let work = AssertUnwindSafe(async { (check.run)().await }).catch_unwind();
    let failure = match timeout(check.within, work).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(chain(&*error)),
        Ok(Err(panic)) => Some(format!("panicked: {}", panic_text(&*panic))),
        Err(_) => Some(format!("no answer within {:?}", check.within)),
    };
    if let Some(failure) = &failure {
        log::warn!("not ready: check {:?}: {failure}", check.name);
    }
    Found {
        name: &check.name,
        status: if failure.is_none() { "ok" } else { "failed" },
        took_ms: millis(begun.elapsed()),
        error: failure.filter(|_| cfg!(debug_assertions)),
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn answer(status: StatusCode, report: &Report<'_>) -> hyper::Response<ResponseBody> {
    // text and numbers always serialize
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    let mut response = hyper::Response::new(ResponseBody::Full(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
