//! Published ports: the short form, the long form, and ranges.

use devenv_document::tree::{Content, Node};

use crate::values::Values;

/// One port of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) target: u16,
    /// The port of the host, or any free one.
    pub(crate) published: Option<u16>,
    /// How many ports of the host will do, from the published one on.
    pub(crate) choice: u16,
    pub(crate) address: Option<String>,
    pub(crate) udp: bool,
}

/// All ports of a service; of two for the same place, the later one.
pub(crate) fn ports(service: &Node, values: &mut Values<'_>) -> Vec<Port> {
    let mut found: Vec<Port> = Vec::new();
    let Some(node) = service.get("ports") else { return found };
    if !matches!(node.content, Content::List(_) | Content::Null) {
        values.wrong(node.span, "ports", "a list", node);
    }
    for item in node.items() {
        let ports = match item.text() {
            Some(text) => short(text),
            None if item.map().is_some() => long(item, values),
            None => Err("it is neither text nor a mapping".to_owned()),
        };
        match ports {
            Ok(ports) => {
                for port in ports {
                    found.retain(|known| *known != port);
                    found.push(port);
                }
            }
            Err(reason) => {
                values
                    .findings
                    .error(item.span, "bad-port", format!("{} is not a port: {reason}", item.noun()))
                    .hint("write `8080`, `8080:80`, `127.0.0.1:8080:80/tcp` or `8080-8081:80-81`");
            }
        }
    }
    found
}

fn short(text: &str) -> Result<Vec<Port>, String> {
    let (rest, protocol) = text.split_once('/').map_or((text, "tcp"), |(rest, protocol)| (rest, protocol));
    let udp = udp(protocol)?;
    let (host, target) = rest.rsplit_once(':').map_or((None, rest), |(host, target)| (Some(host), target));
    let (address, published) = match host {
        None => (None, None),
        Some(host) => match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, published)) => (Some(address), published.strip_prefix(':')),
            None => host.rsplit_once(':').map_or((None, Some(host)), |(address, published)| (Some(address), Some(published))),
        },
    };
    let published = published.filter(|published| !published.is_empty()).map(range).transpose()?;
    spread(range(target)?, published, address.filter(|address| !address.is_empty()).map(str::to_owned), udp)
}

fn long(item: &Node, values: &mut Values<'_>) -> Result<Vec<Port>, String> {
    let target = values.text(item, "target").ok_or("`target` is missing")?;
    let published = values.text(item, "published").filter(|published| !published.is_empty());
    let udp = udp(values.text(item, "protocol").as_deref().unwrap_or("tcp"))?;
    let published = published.as_deref().map(range).transpose()?;
    spread(range(&target)?, published, values.text(item, "host_ip"), udp)
}

fn udp(protocol: &str) -> Result<bool, String> {
    match protocol {
        "tcp" => Ok(false),
        "udp" => Ok(true),
        other => Err(format!("the protocol `{other}` is neither `tcp` nor `udp`")),
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number =
        |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or(format!("`{text}` is not a number from 1 to 65535"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first <= last { Ok((first, last)) } else { Err(format!("the range {text} ends before it begins")) }
}

fn spread(target: (u16, u16), published: Option<(u16, u16)>, address: Option<String>, udp: bool) -> Result<Vec<Port>, String> {
    let count = target.1 - target.0;
    if count >= 1000 {
        return Err("it has more than 1,000 ports".to_owned());
    }
    let choice = match published {
        Some((first, last)) if count == 0 => last - first + 1,
        Some((first, last)) if last - first != count => return Err("the two ranges differ in length".to_owned()),
        _ => 1,
    };
    Ok((0..=count)
        .map(|step| Port {
            target: target.0 + step,
            published: published.map(|(first, _)| first + step),
            choice,
            address: address.clone(),
            udp,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_form_is_understood() {
        let shown = |text: &str| -> Vec<String> {
            let show = |port: Port| {
                let host = port.published.map(|port| port.to_string()).unwrap_or_default();
                format!("{}>{host}>{}{}", port.address.unwrap_or_default(), port.target, if port.udp { "/udp" } else { "" })
            };
            short(text).unwrap().into_iter().map(show).collect()
        };
        for (text, wanted) in [
            ("3000", vec![">>3000"]),
            ("8000:80", vec![">8000>80"]),
            ("127.0.0.1:8001:8001", vec!["127.0.0.1>8001>8001"]),
            ("127.0.0.1::5000", vec!["127.0.0.1>>5000"]),
            ("[::1]:6001:6001", vec!["::1>6001>6001"]),
            ("6060:6060/udp", vec![">6060>6060/udp"]),
            ("18080-18081:8080-8081", vec![">18080>8080", ">18081>8081"]),
            ("3000-3001", vec![">>3000", ">>3001"]),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
        assert_eq!(short("3000-3005:80").unwrap()[0].choice, 6);
        for bad in ["", "x", "0", "70000", "80:90-91", "80/sctp", "9-8", "1-2000"] {
            assert!(short(bad).is_err(), "{bad}");
        }
    }
}
