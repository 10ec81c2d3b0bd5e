//! Wire types of the devenv daemon, and the client that speaks to it over its unix socket.
//!
//! What `--json` prints, what the socket carries and what a test harness reads are the same types. The page that
//! promises them to scripts is `docs/reference/interface.md`; they change only by adding.

mod backup;
mod browse;
mod bundle;
mod chaos;
mod client;
mod daemon;
mod data;
mod error;
mod event;
mod exec;
mod images;
mod lease;
mod load;
mod operation;
mod plan;
mod progress;
mod request;
pub mod route;
mod scenario;
mod secret;
mod status;
mod target;
mod timing;
mod ui;

pub use backup::{
    Backup, BackupFile, BackupPart, Backups, Compared, Content, Drill, RestoreRequest, Restored, TransferRequest, Transferred,
};
pub use browse::{
    Alert, AlertRule, Column, DataGroup, DataGroupKind, DataItem, DataItemKind, MetricSeries, Metrics, MetricsRequest, Outline,
    OutlineRequest, ProduceRequest, Produced, QueryRequest, Rows, RowsRequest, Sample, Sort, Span, Trace, Traces, TracesRequest,
};
pub use bundle::{BundleFile, BundleRequest};
pub use chaos::{
    Fault, FaultCatalogue, FaultDescription, FaultParameter, Faults, FaultsRequest, HealRequest, Impairments, ImpairmentsRequest,
    InjectRequest, Witness,
};
pub use client::{Client, ClientError, ENGINE_HEADER, EXEC_PROTOCOL, EngineSelection, ExecSession, Stream, unusable};
pub use daemon::{Announcement, Check, CheckStatus, DaemonStatus, Doctor, EngineInfo, EnvironmentUsage};
pub use data::{
    ChangedLine, Lease, Ledger, LedgerChanges, LedgerEntry, LedgerMode, LedgerState, LineChange, ScriptChange, Snapshot, SnapshotPart,
    Snapshots,
};
pub use error::{ApiError, ErrorCode, ErrorDocument, Problem, Problems, Severity};
pub use event::{Event, LogLine, LogStream};
pub use exec::{DaemonCodec, ExecInput, ExecOutput, ExecRequest, TerminalCodec, TerminalSize};
pub use images::{ArchiveRequest, FetchMessage, FetchRequest, ImageEntry, Images};
pub use lease::{HoldRequest, Holding, LEASE_PROTOCOL, LeaseCommand, LeaseMessage, LeaseRequest};
pub use load::{LoadBudget, LoadFigures, LoadReport};
pub use operation::{
    ASKED_BY_AGENT, AgentCall, AskedBy, Operation, OperationKind, OperationMessage, OperationProgress, OperationRequest, OperationState,
    OperationTarget, Operations, Submission,
};
pub use plan::{Action, Consequence, HostPower, Plan, PowerKind, Step};
pub use progress::UpMessage;
pub use request::{
    AcceptRequest, ApplyRequest, BuildRequest, Built, BuiltImage, DownRequest, EventsRequest, ExecTarget, ForkRequest, GcReport, GcRequest,
    LogsRequest, MoveRequest, NamedRequest, Removed, ServicesRequest, ShellVariables, TakeOverRequest, TakenOver, TakenVolume, UpRequest,
    Variable, Variables, VariablesFor, VariablesRequest, WaitRequest, Why, WhyRequest,
};
pub use scenario::{ChaosPlan, CheckResult, PlannedFault, Recovery, Report, RunAbout, RunService, Verdict, WorkloadResult};
pub use secret::{Secret, SecretOrigin, Secrets, SetSecretRequest};
pub use status::{Condition, Phase, Port, Service, ServiceState, Status};
pub use target::{EnvironmentTarget, is_instance_name};
pub use timing::{PhaseTiming, ServiceTimings, StartPhase, Timings};
pub use ui::{UiAddress, UiOpened, UiRequest};
