//! `dpg work`: works on jobs of the queue and serves nothing. With `--once` a batch system (Slurm, Kubernetes' Jobs)
//! starts it for one job, and its exit code is that job's.

use anyhow::bail;
use clap::Args;
use dpg_queue::State;
use serde_json::json;

use crate::commands::show;
use crate::jobs::worker;
use crate::services::Services;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::overrides::Overrides;
use crate::terminal::console::note;
use crate::terminal::stop::Stop;

/// How `dpg work` works.
#[derive(Debug, Args)]
pub(crate) struct WorkArguments {
    /// Take one job that this machine can run, and end with it. The exit code is its success; it is 0 if there is none.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// Works until told to stop, or until a job has ended.
pub(crate) async fn work(data: DataDir, arguments: WorkArguments, as_json: bool) -> anyhow::Result<()> {
    let config = Config::effective(&data, &arguments.overrides)?;
    let services = Services::open(config, data).await?;
    if !arguments.once {
        return worker::work(services).await;
    }
    let stop = Stop::listen()?;
    let Some(job) = worker::work_once(&services, &stop).await? else {
        note("no job waits that this machine can run");
        return Ok(());
    };
    let error = job.error.as_deref().unwrap_or("it was told to stop");
    match job.state {
        State::Succeeded => {
            let value = json!({ "id": job.id, "name": job.name, "state": job.state, "result": job.result });
            show(as_json, &value, || format!("`{}` succeeded: {}", job.name, job.id));
            Ok(())
        }
        State::Queued => bail!("`{}` went back to the queue: {error}", job.name),
        state => bail!("`{}` {state}: {error}", job.name),
    }
}
