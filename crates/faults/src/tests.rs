use super::*;
use devenv_spec::{ContainerSpec, Workload};

fn names() -> impl Iterator<Item = &'static str> {
    GENERIC.iter().map(|kind| kind.name())
}

fn find(name: &str) -> Option<&'static dyn FaultKind> {
    GENERIC.iter().copied().find(|kind| kind.name() == name)
}

fn parse(fault: &str, parameters: &[(&str, &str)]) -> Result<FaultSpec, InvalidFault> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let kind = find(fault).ok_or_else(|| InvalidFault::unknown(fault, names()))?;
    FaultSpec::parse("f1", kind, "cache".parse().unwrap(), &parameters, None, 7)
}

fn service(kind: &str) -> ServiceSpec {
    let json = serde_json::json!({
        "name": "cache", "kind": kind, "workload": Workload::Container(ContainerSpec::new("redis:8.0")), "depends_on": {}, "on_dependency_restart": "ignore",
        "optional": false, "probe": "none", "provision": [], "proof": null, "ready_timeout": { "secs": 1, "nanos": 0 },
        "stop": { "signal": "SIGTERM", "grace": { "secs": 1, "nanos": 0 } }, "restart": { "policy": "on-failure", "attempts": 5 }, "urls": {}
    });
    serde_json::from_value(json).unwrap()
}

fn describe(fault: &str, kind: &str, parameters: &[(&str, &str)]) -> Result<Injection, Refusal> {
    let spec = parse(fault, parameters).unwrap();
    let services = ["cache".parse().unwrap(), "db".parse().unwrap()];
    let faults: Vec<&str> = names().collect();
    find(fault).unwrap().describe(&spec.parameters, &Target { spec: &service(kind), services: &services, faults: &faults, seed: 7 })
}

#[test]
fn every_fault_of_the_contract_is_there_and_its_defaults_are_valid() {
    let wanted = "monkey kill stop restart crash-loop pause freeze partition refuse reset loss latency bandwidth slow-close limit-data blackhole cpu memory \
        disk-full power-cut disk-read-only dns remove daemon-death duplicate corrupt reorder";
    assert_eq!(super::tests::names().collect::<Vec<_>>(), wanted.split_whitespace().collect::<Vec<_>>());
    for kind in GENERIC {
        parse(kind.name(), &[]).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
    }
}

#[test]
fn every_problem_of_a_fault_is_reported_with_a_suggestion() {
    let message = |result: Result<FaultSpec, InvalidFault>| {
        let error = result.unwrap_err();
        format!("{error} / {} / {}", error.hint().unwrap_or_default(), error.parameter().unwrap_or_default())
    };
    insta::assert_snapshot!(message(parse("kil", &[])), @"unknown fault `kil` / did you mean `kill`? run `devenv chaos faults` to list them / ");
    insta::assert_snapshot!(message(parse("latency", &[("dely", "1s")])), @"the fault `latency` has no parameter `dely` / did you mean `delay`? / dely");
    insta::assert_snapshot!(message(parse("latency", &[("delay", "80")])), @"`delay` of the fault `latency` is `80`, but must be a duration such as `80ms` /  / delay");
    insta::assert_snapshot!(message(parse("partition", &[("style", "dorp")])), @"`style` of the fault `partition` is `dorp`, but must be `drop`, `reject` /  / style");
    insta::assert_snapshot!(message(parse("loss", &[("probability", "130%")])), @"`probability` of the fault `loss` is `130%`, but must be a percentage such as `30%` /  / probability");
}

#[test]
fn a_delay_in_both_directions_is_what_a_round_trip_takes_longer() {
    let toxic = |direction| match describe("latency", "redis", &[("delay", "80ms"), ("jitter", "20ms"), ("direction", direction)])
        .unwrap()
        .action
    {
        Action::Network(Network { toxic: Some(toxic), .. }) => (toxic.delay_up, toxic.delay_down, toxic.jitter_up, toxic.jitter_down),
        other => panic!("{other:?}"),
    };
    assert_eq!(toxic("both"), (40_000, 40_000, 10_000, 10_000));
    assert_eq!(toxic("up"), (80_000, 0, 20_000, 0));
    assert_eq!(toxic("down"), (0, 80_000, 0, 20_000));
}

#[test]
fn a_fault_that_cannot_take_effect_is_refused_with_the_reason() {
    let reason = |fault, kind, parameters: &[(&str, &str)]| describe(fault, kind, parameters).unwrap_err().reason;
    assert_eq!(reason("power-cut", "redis", &[]), "`power-cut` needs cache to have its own disk");
    assert_eq!(reason("partition", "redis", &[("from", "nobody")]), "`from` is `nobody`, but there is no such service");
    assert_eq!(reason("partition", "redis", &[("from", "cache")]), "cache cannot be cut off from itself");
    assert_eq!(reason("monkey", "redis", &[("faults", "kill,monkey")]), "`monkey` cannot inject `monkey`");
}

#[test]
fn a_list_without_a_name_in_it_is_refused_and_an_empty_place_in_a_list_is_skipped() {
    for (parameters, expected) in [
        ([("faults", ","), ("services", "cache")], "`faults` names nothing"),
        ([("faults", " , "), ("services", "cache")], "`faults` names nothing"),
        ([("faults", "kill"), ("services", ",")], "`services` names nothing"),
    ] {
        assert_eq!(describe("monkey", "redis", &parameters).unwrap_err().reason, expected);
    }
    match describe("monkey", "redis", &[("faults", "kill,,pause,"), ("services", "cache,,db,")]).unwrap().action {
        Action::Monkey { faults, services, .. } => assert_eq!((faults.len(), services.len()), (2, 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_spec_reads_back_from_its_journal() {
    let spec = parse("latency", &[("delay", "80ms"), ("probability", "30%")]).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<FaultSpec>(&text).unwrap(), spec);
    insta::assert_snapshot!(spec.parameters.to_json().to_string(), @r#"{"connections":"all","delay":"80ms","direction":"both","jitter":"0ms","persist":"false","probability":"30%"}"#);
}
