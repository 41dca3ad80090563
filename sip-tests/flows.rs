//! The stories: what people see, in virtual time. Each names the step of the use case or the
//! sentence of an RFC that it shows.

mod bounds;
mod deliver;
mod hostile;
mod receipts;
mod register;
mod send;
mod store;
mod wire;
