//! Whatever customers, banks and webhooks do, a captured payment has one fate.
