//! Parents of small programs.

use std::net::TcpListener;
use std::time::Duration;

use super::*;
use crate::http::Sockets;

fn nest(script: &str, sockets: Sockets) -> Nest {
    let arguments = ["-c", script].map(Into::into).to_vec();
    Nest::new("/bin/sh".into(), arguments, sockets).unwrap()
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_child_is_told_what_it_inherits_and_how_many_died_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told").display().to_string();
    // 78: the second one says that another would end in the same way.
    let script = format!(
        "echo \"$LISTEN_FDS $LISTEN_FDNAMES ${{LISTEN_PID-none}} $ROADCREW_PARENT $ROADCREW_RESTARTS\" \
         >>{file}\n\
         for at in 0 1; do [ -S /proc/self/fd/$((LISTEN_FDS_FIRST_FD + at)) ] && echo open >>{file}; done\n\
         [ $ROADCREW_RESTARTS = 1 ] && exit 78; exit 70"
    );
    let sockets = Sockets { http: Some(listener()), axon: Some(listener()) };
    assert_eq!(keep(&nest(&script, sockets)).unwrap(), 78);
    let me = std::process::id();
    let told = fs_err::read_to_string(&file).unwrap();
    let expected = |n| format!("2 http:axon none {me} {n}\nopen\nopen\n");
    assert_eq!(told, expected(0) + &expected(1));
}

#[test]
fn a_child_that_says_it_is_ready_is_heard() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ears = Ears::open().unwrap();
        let mut child = nest("exec sleep 600", Sockets::default()).spawn(0, &ears.address).unwrap();
        let notifier = Notifier::at(&ears.address).unwrap();
        notifier.send("STATUS=loading");
        notifier.ready();
        assert_eq!(ears.listen(&mut child).await.unwrap(), Event::Ready);
        notifier.ready();
        child.kill().unwrap();
        assert_eq!(ears.listen(&mut child).await.unwrap(), Event::Ready, "said before it died");
        assert_eq!(ears.listen(&mut child).await.unwrap(), Event::Ended(End::Signal(9)));
        assert_eq!(ears.rest(Duration::ZERO).await.unwrap(), Event::Rested);
    });
}
