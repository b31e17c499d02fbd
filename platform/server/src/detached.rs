//! A future that runs to its end even when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

/// Runs in its caller's task for as long as that lives, so that the usual call costs no hand-over; is moved to a task of its
/// own when the caller is dropped before the end.
pub struct RunToEnd<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F: Future<Output: Send> + Send + 'static> RunToEnd<F> {
    /// Wraps `future`; `tasks` is where it goes on.
    pub fn new(future: F, tasks: &TaskTracker) -> Self {
        Self { future: Some(Box::pin(future)), tasks: tasks.clone() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for RunToEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = self.future.as_mut() else { return Poll::Pending };
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for RunToEnd<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            self.tasks.spawn_on(
                async move {
                    future.await;
                },
                &runtime,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_though_its_caller_leaves() {
        let tasks = TaskTracker::new();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        let work = RunToEnd::new(
            async move {
                let _ = gone.await;
                let _ = done.send(7);
            },
            &tasks,
        );
        let caller = tokio::spawn(work);
        tokio::task::yield_now().await;
        caller.abort();
        let _ = caller.await;
        let _ = go.send(());
        assert_eq!(ended.await, Ok(7));
    }
}
