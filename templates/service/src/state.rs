//! What handlers share.

use std::sync::{Arc, PoisonError, RwLock};

use crate::Settings;

/// The state of the application: a clone for each request.
#[derive(Clone)]
pub struct Service {
    pub(crate) settings: Settings,
    pub(crate) notes: Notes,
}

/// The notes, in memory; a database pool would stand here.
#[derive(Clone, Default)]
pub struct Notes(Arc<RwLock<Vec<String>>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn get(&self, id: usize) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Adds a note and gives its number, unless there are `limit` already.
    pub(crate) fn add(&self, text: String, limit: usize) -> Option<usize> {
        let mut notes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= limit {
            return None;
        }
        notes.push(text);
        Some(notes.len() - 1)
    }
}
