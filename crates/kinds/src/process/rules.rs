//! Rules for the command, and for fields of other services that do not apply to a program on the host.

use devenv_document::source::Findings;

use super::ProcessKind;
use crate::capability::{KindReload, Rules, ServiceNode};

impl Rules for ProcessKind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        for (field, instead) in
            [("image", "a process runs on the host"), ("ports", "set `port` under `process`"), ("storage", "a process can write anywhere")]
        {
            if let Some(entry) = service.node.entry(field) {
                findings.error(entry.key, "not-for-this-kind", format!("`{field}` is not allowed for the kind `process`")).hint(instead);
            }
        }
        let fields = service.fields;
        let Some(command) = fields.entry("command") else { return };
        let nothing = command.node.list().is_some_and(|items| items.first().is_none_or(|first| first.text() == Some("")));
        if nothing {
            findings.error(command.key, "empty-command", "`command` must not be empty").hint("write `command: [program, argument]`");
        }
    }

    fn is_own_program(&self) -> bool {
        true
    }

    fn port_hint(&self, service: &ServiceNode<'_>) -> Option<&'static str> {
        service.fields.entry("port").is_none().then_some("set `port: 0` under `process`")
    }

    fn host_ports(&self) -> &'static [&'static str] {
        &["port", "debug_port"]
    }

    fn reloads(&self) -> &'static [KindReload] {
        &[KindReload { on_change: "swap", needs: Some("port") }]
    }
}
