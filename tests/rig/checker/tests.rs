//! Each rule on evidence that breaks it, and on evidence that does not.
