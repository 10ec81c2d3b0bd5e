//! The fake engine's streams: events, output, progress.

use super::{BoxStream, EngineError, EngineEvent, FakeEngine, LogChunk, OwnerId, PullProgress, StreamExt, refused, stream};

impl FakeEngine {
    pub(super) fn follow_events(&self, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
        let owner = owner.clone();
        let receiver = if self.lock().gone { None } else { Some(self.events.subscribe()) };
        let Some(receiver) = receiver else {
            return stream::iter([Err(unreachable("it is gone"))]).boxed();
        };
        stream::unfold(Some(receiver), move |receiver| {
            let owner = owner.clone();
            async move {
                let mut receiver = receiver?;
                loop {
                    match receiver.recv().await {
                        Ok(Ok(event)) if event.labels.owner == owner => return Some((Ok(event), Some(receiver))),
                        Ok(Ok(_)) => {}
                        Ok(Err(reason)) => return Some((Err(unreachable(&reason)), None)),
                        Err(_) => return None,
                    }
                }
            }
        })
        .boxed()
    }

    pub(super) fn read_output(&self, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>> {
        let (engine, id, since) = (self.clone(), id.to_owned(), since.unwrap_or_default().to_owned());
        let changes = self.changes.subscribe();
        stream::once(async move {
            let _call = engine.begin("logs", &id).await?;
            engine.lock().container(&id)?;
            Ok::<_, EngineError>(stream::unfold((engine, id, changes, 0), move |(engine, id, mut changes, at)| {
                let since = since.clone();
                async move {
                    loop {
                        let (chunk, runs) = {
                            let mut state = engine.lock();
                            let container = state.container(&id).ok()?;
                            let chunk = container.output.iter().filter(|chunk| chunk.time >= since).nth(at).cloned();
                            (chunk, container.runs())
                        };
                        match chunk {
                            Some(chunk) => return Some((Ok(chunk), (engine, id, changes, at + 1))),
                            None if follow && runs => changes.changed().await.ok()?,
                            None => return None,
                        }
                    }
                }
            }))
        })
        .flat_map(|started| match started {
            Ok(chunks) => chunks.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }

    pub(super) fn progress_of_pull(&self, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>> {
        let (engine, name) = (self.clone(), name.to_owned());
        stream::once(async move {
            let _call = engine.begin("pull", &name).await?;
            let mut state = engine.lock();
            let progress = state.pullable.get(&name).cloned();
            let progress = progress.ok_or_else(|| refused(&format!("pull the image `{name}`"), 404, "manifest unknown"))?;
            state.images.insert(name.clone(), format!("sha256:{name}"));
            Ok::<_, EngineError>(progress)
        })
        .flat_map(|progress| match progress {
            Ok(progress) => stream::iter(progress).map(Ok).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
    }
}

fn unreachable(reason: &str) -> EngineError {
    EngineError::Unreachable { endpoint: "fake".to_owned(), reason: reason.to_owned() }
}
