//! What an operator asks of a running node.

use super::{AccountLine, Effect, Node, Question, Reply, Status};
use crate::base::now::Now;
use crate::service::account::{check_name, split};
use crate::service::disposition;
use crate::service::log::submit;
use crate::service::record::{AccountPut, Record};
use crate::service::tu::{Then, User};

impl Node {
    pub(super) fn operator(&mut self, now: Now, id: u64, question: Question) {
        let reply = match question {
            Question::AccountPut { aor, credentials, new } => {
                self.account_put(now, id, &aor, credentials, new)
            }
            Question::AccountRemove { aor } => self.account_remove(now, id, &aor),
            Question::Accounts => Some(Reply::Accounts(self.accounts())),
            Question::Status => Some(Reply::Status(self.status())),
        };
        if let Some(reply) = reply {
            self.effects.push(Effect::Reply { id, reply });
        }
    }

    /// `None`: the reply comes when it is on disk.
    fn account_put(
        &mut self,
        now: Now,
        id: u64,
        aor: &str,
        credentials: AccountPut,
        new: bool,
    ) -> Option<Reply> {
        let (user, domain) = split(aor);
        if user.is_empty() || self.tables.settings.domains.home(domain) != Some(domain) {
            return no(format!("{aor} is not in a home domain: add a [[domain]] first"));
        }
        let ix = self.tables.find(aor);
        let exists = ix.is_some_and(|ix| self.tables.user(ix).account.is_some());
        if ix.is_some_and(|ix| self.tables.user(ix).provisioned) {
            return no(format!("{aor} comes from the configuration: change it there"));
        }
        if new && let Err((what, fix)) = check_name(user) {
            return no(format!("the address {what}: {fix}"));
        }
        if new && exists {
            return no(format!("{aor} exists: use `cpmd account passwd` to change its password"));
        }
        if !new && !exists {
            return no(format!("{aor} does not exist: use `cpmd account add`"));
        }
        let ix = self.tables.find_or_make(aor);
        self.submit_account(now, id, ix, Record::AccountPut(credentials))
    }

    fn account_remove(&mut self, now: Now, id: u64, aor: &str) -> Option<Reply> {
        let found = self.tables.find(aor).filter(|ix| self.tables.user(*ix).account.is_some());
        let Some(ix) = found else {
            return no(format!("{aor} does not exist: `cpmd account list` shows who does"));
        };
        if self.tables.user(ix).provisioned {
            return no(format!("{aor} comes from the configuration: remove it there"));
        }
        if self.tables.store_takes() {
            // Who wrote and was told 202 hears that nobody will ever read it.
            disposition::give_up_all(&mut self.tables, now, ix, &mut self.out);
        }
        self.submit_account(now, id, ix, Record::AccountGone)
    }

    fn submit_account(
        &mut self,
        now: Now,
        id: u64,
        ix: crate::service::tu::UserIx,
        record: Record,
    ) -> Option<Reply> {
        if !self.tables.store_takes() {
            return no("the store takes no writes: see the log, then try again".to_owned());
        }
        let then = [Then::Operator(id)];
        submit(&mut self.tables, now, ix, &[record], Vec::new(), then, &mut self.out);
        None
    }

    fn accounts(&self) -> Vec<AccountLine> {
        let line = |user: &User| AccountLine {
            aor: user.aor.to_string(),
            provisioned: user.provisioned,
            devices: user.location.devices().count(),
            bound: user.location.devices().filter(|d| d.binding.is_some()).count(),
            waiting: user.mailbox.open(),
        };
        let there = self.tables.users.iter().filter(|u| u.account.is_some());
        let mut lines: Vec<AccountLine> = there.map(line).collect();
        lines.sort_by(|a, b| a.aor.cmp(&b.aor));
        lines
    }

    fn status(&self) -> Status {
        let users = &self.tables.users;
        let bound = |u: &User| u.location.devices().filter(|d| d.binding.is_some()).count();
        Status {
            accounts: users.iter().filter(|u| u.account.is_some()).count(),
            bindings: users.iter().map(bound).sum(),
            waiting: users.iter().map(|u| u.mailbox.open()).sum(),
            transactions: self.transactions.open(),
            store_works: self.tables.store_works,
        }
    }
}

fn no(why: String) -> Option<Reply> {
    Some(Reply::No(why))
}
