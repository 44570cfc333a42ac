"""All promises in one class."""

from __future__ import annotations

from unified_storage.testing.promises.aliasing import AliasingPromises
from unified_storage.testing.promises.appending import AppendPromises, KeyPromises
from unified_storage.testing.promises.arguments import ArgumentPromises
from unified_storage.testing.promises.batches import BatchPromises
from unified_storage.testing.promises.concurrency import CancellationPromises, IsolationPromises, ThreadPromises
from unified_storage.testing.promises.deletes import DeletePromises, SharedIdPromises, SystemRecordPromises
from unified_storage.testing.promises.expiry import ExpiryPromises
from unified_storage.testing.promises.filters import FilterPromises
from unified_storage.testing.promises.joining import AtomicallyPromises, JoiningPromises
from unified_storage.testing.promises.listing import ListPromises, StreamPromises
from unified_storage.testing.promises.operations import OperationPromises
from unified_storage.testing.promises.pages import IndexedOrderPromises, PagePromises
from unified_storage.testing.promises.queries import QueryPromises
from unified_storage.testing.promises.reading import LogListPromises, ReadPromises, WithdrawPromises
from unified_storage.testing.promises.records import SavePromises, VersionPromises
from unified_storage.testing.promises.restoring import RestorePromises
from unified_storage.testing.promises.transactions import TransactionPromises
from unified_storage.testing.promises.updates import UpdatePromises
from unified_storage.testing.promises.upkeep import CleanupPromises, LifetimePromises
from unified_storage.testing.promises.values import ValuePromises


class StorageConformance(
    SavePromises,
    VersionPromises,
    AliasingPromises,
    ValuePromises,
    UpdatePromises,
    DeletePromises,
    SharedIdPromises,
    SystemRecordPromises,
    BatchPromises,
    ListPromises,
    StreamPromises,
    FilterPromises,
    PagePromises,
    IndexedOrderPromises,
    QueryPromises,
    AppendPromises,
    KeyPromises,
    ReadPromises,
    WithdrawPromises,
    LogListPromises,
    OperationPromises,
    TransactionPromises,
    JoiningPromises,
    AtomicallyPromises,
    IsolationPromises,
    CancellationPromises,
    ThreadPromises,
    ExpiryPromises,
    CleanupPromises,
    LifetimePromises,
    RestorePromises,
    ArgumentPromises,
):
    """Every promise that a storage makes; a subclass named ``Test...`` gives the fixture ``open_store``."""
