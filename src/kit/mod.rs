//! Small tools without domain words: time, ids, money, secrets, paging, back-off, memory.

pub mod backoff;
pub mod checkpoint;
pub mod clock;
pub mod ids;
pub mod money;
pub mod page;
pub mod recent;
pub mod secret;
pub mod terms;
pub mod text;
