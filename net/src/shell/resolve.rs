//! Addresses of peers, within a bounded time.

use std::net::SocketAddr;
use std::time::Duration;

use super::limits::LOOKUP_FIRST_MS_MAX;
use crate::limits::LOOKUP_AGAIN_MS_MAX;
use crate::resolve::Resolver;

impl Resolver {
    /// All addresses of these hosts and ports, in their order, each once. It takes no longer than two seconds.
    ///
    /// # Errors
    /// None of them has a known address; says why for each.
    pub async fn addresses(&self, authorities: &[String]) -> Result<Vec<SocketAddr>, String> {
        let wait_ms = if self.known(authorities).is_ok() { LOOKUP_AGAIN_MS_MAX } else { LOOKUP_FIRST_MS_MAX };
        let all = async {
            self.look_up(authorities).await;
            Ok(())
        };
        // Whatever is known when the time is up has to do.
        let _in_time = glommio::timer::timeout(Duration::from_millis(wait_ms), all).await;
        self.known(authorities)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::*;

    const PORT: u16 = 7;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], PORT))
    }

    fn run(test: impl Future<Output = ()>) {
        glommio::LocalExecutorBuilder::default().make().expect("an executor").run(test);
    }

    /// A resolver whose lookups of `hangs:7` end when something is sent to the channel; it counts them.
    fn resolver_that_hangs() -> (Resolver, mpsc::Sender<Vec<SocketAddr>>, Arc<AtomicUsize>) {
        let (answer, answers) = mpsc::channel::<Vec<SocketAddr>>();
        let (answers, count) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&count);
        let resolver = Resolver::new(move |name| {
            if name != "hangs:7" {
                return Ok(vec![address(2), address(3)]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().expect("unpoisoned").recv().map_err(|_| io::Error::other("the resolver was shut down"))
        });
        (resolver, answer, count)
    }

    #[test]
    fn a_lookup_that_hangs_holds_up_no_other_name_and_is_not_begun_twice() {
        run(async {
            let (resolver, answer, count) = resolver_that_hangs();
            let hanging = vec!["hangs:7".to_owned()];
            for _ in 0..2 {
                let error = resolver.addresses(&hanging).await.expect_err("nobody answers");
                assert!(error.contains("has not answered"), "{error}");
                let both = vec!["hangs:7".to_owned(), "works:7".to_owned(), "127.0.0.1:7".to_owned()];
                let found = resolver.addresses(&both).await.expect("the others have addresses");
                assert_eq!(found, [address(2), address(3), address(1)]);
            }
            assert_eq!(count.load(Ordering::SeqCst), 1);
            answer.send(vec![address(9)]).expect("the lookup waits");
            // The lookup that ends now, or the next one, which is answered at once.
            answer.send(vec![address(9)]).expect("the lookup waits");
            assert_eq!(resolver.addresses(&hanging).await.expect("an answer"), [address(9)]);
        });
    }

    #[test]
    fn the_last_good_answer_is_used_while_the_next_lookup_hangs_or_fails() {
        run(async {
            let (resolver, answer, count) = resolver_that_hangs();
            let name = vec!["hangs:7".to_owned()];
            answer.send(vec![address(4)]).expect("a resolver");
            assert_eq!(resolver.addresses(&name).await.expect("an answer"), [address(4)]);
            assert_eq!(resolver.addresses(&name).await.expect("the last one"), [address(4)]);
            assert_eq!(count.load(Ordering::SeqCst), 2);
            drop(answer);
            assert_eq!(resolver.addresses(&name).await.expect("the last one"), [address(4)]);
        });
    }
}
