//! What was found.

use std::collections::BTreeSet;

use socktrace::aggregate::{FindingRow, Timeline};
use socktrace::event::{Certainty, Finding, Phrase, Severity, name, word};

use crate::course::{APP, TLS, WEB, dropped, failed};

pub(crate) fn finding(
    (severity, certainty): (Severity, Certainty),
    rule: &'static str,
    [subject, fact, consequence, fix]: [Phrase; 4],
    evidence: Vec<Phrase>,
) -> Finding {
    Finding { severity, certainty, rule: rule.into(), subject, fact, consequence, fix, evidence }
}

pub(crate) fn socket_mode() -> Finding {
    finding(
        (Severity::Error, Certainty::Measured),
        "unix-socket-mode",
        [
            name(b"/run/shop/checkout.sock"),
            Phrase::from("the socket's mode 0660 gives others nothing"),
            "its group is www-data (33), and the client is deploy (1001)".into(),
            Phrase::from("chmod o+w ")
                .then(word(b"/run/shop/checkout.sock"))
                .then(", or make the client's user a member of www-data"),
        ],
        vec![
            "srw-rw---- root:www-data /run/shop/checkout.sock".into(),
            "client: fsuid 1001, fsgid 1001, groups 1001, CapEff 0000000000000000".into(),
        ],
    )
}

pub(crate) fn hostile() -> Finding {
    finding(
        (Severity::Error, Certainty::Inferred),
        "unix-stale-socket",
        [
            name("/tmp/<script>alert(\"x\")</script>\u{202e}kcos.\n".as_bytes()),
            "no socket is bound to the file: it was left behind by a server of deploy (1001) that is gone".into(),
            "every connect to it is refused".into(),
            Phrase::from("restart its socket unit (systemctl restart ")
                .then(word(b"'; rm -rf \"<b>\" &amp;.socket"))
                .then(")"),
        ],
        vec![name(b"\0abstract\x1b[31m&<i>")],
    )
}

pub(crate) fn queue_full(lost: u64) -> Finding {
    finding(
        (Severity::Error, Certainty::Measured),
        "accept-queue-full",
        [
            "0.0.0.0:80 of nginx (pid 1812), nginx (pid 1813), nginx (pid 1814) and 1 more".into(),
            format!(
                "{lost} connections were thrown away: the accept queue was full, and it accepts more \
                 slowly than connections come"
            )
            .into(),
            "clients wait for a second or longer and try again, or give up".into(),
            "accept faster (more workers, or what they wait for); a larger backlog only delays this".into(),
        ],
        vec!["backlog 511 asked for, 511 in force, somaxconn 4096, longest queue seen 511".into()],
    )
}

pub(crate) fn findings(timeline: &Timeline) -> Vec<FindingRow> {
    let row = |finding, count, listener, pids: &[u32]| FindingRow {
        finding,
        count,
        listener,
        goes_on: listener == Some(APP),
        pids: pids.iter().copied().collect::<BTreeSet<_>>(),
    };
    let stopped = finding(
        (Severity::Error, Certainty::Measured),
        "stall-owner-stopped",
        [
            "/run/shop/checkout.sock of gunicorn (pid 2290)".into(),
            "129 connections waited for up to 18.2 s, and gunicorn is stopped (SIGSTOP)".into(),
            "nobody accepts until it goes on".into(),
            "let it go on (kill -CONT 2290), and find who stopped it".into(),
        ],
        vec!["last accept 17.9 s before".into()],
    );
    let capped = finding(
        (Severity::Warning, Certainty::Measured),
        "backlog-near-limit",
        [
            "[::]:443 of nginx (pid 1812)".into(),
            "its backlog of 511 is below somaxconn, and bursts come close".into(),
            Phrase::default(),
            "raise the backlog that the server passes to listen()".into(),
        ],
        Vec::new(),
    );
    let route = finding(
        (Severity::Info, Certainty::Unknown),
        "unexplained",
        [
            "10.4.0.17:5432".into(),
            "nothing that socktrace looked at explains the refusal".into(),
            "the server may have been restarting".into(),
            "on that host, run socktrace diagnose 10.4.0.17:5432".into(),
        ],
        vec!["route: via 10.4.0.1 dev eth0".into()],
    );
    vec![
        row(stopped, dropped(timeline, APP), Some(APP), &[2_290]),
        row(
            queue_full(dropped(timeline, WEB)),
            dropped(timeline, WEB),
            Some(WEB),
            &[1_812, 1_813, 1_814, 1_815],
        ),
        row(socket_mode(), failed(timeline, 13), None, &[7_741]),
        row(hostile(), 12, None, &[9_001]),
        row(capped, dropped(timeline, TLS), Some(TLS), &[1_812]),
        row(route, failed(timeline, 111), None, &[2_291]),
    ]
}
