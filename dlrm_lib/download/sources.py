"""Where Criteo's click logs are published, and what their files measured: read from public pages, no link tried here.

Day files, their sizes and MD5 packed and unpacked: mlcommons/inference, ``recommendation/dlrm/pytorch/README.md``
(2020; the sizes are those of ``du``). Kaggle's archive, its MD5 and that of ``train.txt``: ycjuan/kaggle-2014-criteo,
``README``; its bytes: figshare, article 5732310.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dlrm_lib.download.archive import ArchiveMember
from dlrm_lib.download.parquet import ParquetDay
from dlrm_lib.download.transfer import RemoteFile

DAYS = 24
_LICENCE = "CC BY-NC-SA 4.0: name Criteo, no commercial use, share alike"
_LICENCE_TEXT = "https://creativecommons.org/licenses/by-nc-sa/4.0/"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file that a download leaves.

    Attributes:
        name: Its name in the output folder.
        needs: Bytes of disk, those that are in use only on the way included.
        sources: Where it may come from, best first.
        md5: MD5 of the file as published, where one is.
        text_md5: MD5 of the text inside, as published, where the file is a gzip file.
    """

    name: str
    needs: int
    sources: tuple[RemoteFile | ArchiveMember | ParquetDay, ...]
    md5: str | None = None
    text_md5: str | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published data set.

    Attributes:
        name: Names the record of a download: ``<name>.json``.
        title: Its name for people.
        page: The publisher's page.
        licence: The terms in one line.
        licence_text: Where they are written out.
        targets: Its files.
    """

    name: str
    title: str
    page: str
    targets: tuple[Target, ...]
    licence: str = _LICENCE
    licence_text: str = _LICENCE_TEXT


def kaggle() -> Published:
    """The labelled rows of Kaggle's Display Advertising Challenge: one file of seven days, 45,840,617 rows."""
    archive: dict[str, Any] = {"size": 4_576_820_670, "checksum": "md5:df9b1b3766d9ff91d5ca3eb3d23bed27"}
    links = (
        (
            "https://go.criteo.net/criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
            "Criteo's own link (ailab.criteo.com/ressources); reported good on 2026-08-23",
        ),
        (
            "https://huggingface.co/datasets/Recommenders/criteo/resolve/main/dac.tar.gz",
            "copy of the Recommenders project; reported good, with the published MD5, on 2026-10-06",
        ),
        (
            "https://ndownloader.figshare.com/files/10082655",
            "copy in figshare article 5732310, which publishes the same MD5; no dated report",
        ),
    )
    md5 = "4dcfe6c4b7783585d4ae3c714994f26a"
    return Published(
        name="kaggle",
        title="Criteo's rows of Kaggle's Display Advertising Challenge (2014)",
        page="https://ailab.criteo.com/kaggle-contest-dataset-now-available-academic-use/",
        targets=(
            Target(
                name="train.txt",
                needs=archive["size"] + 11_300_000_000,  # Reports say 11 GB and 11.1 GB; nobody published the bytes.
                md5=md5,
                sources=tuple(
                    ArchiveMember(
                        archive=RemoteFile(url=url, provenance=provenance, **archive), member="train.txt", md5=md5
                    )
                    for url, provenance in links
                ),
            ),
        ),
    )


def terabyte(days: Iterable[int] = range(DAYS)) -> Published:
    """Days of the 1TB Click Logs: 24 days, 4,373,472,329 rows.

    Criteo's page names the hub. There the logs are Parquet files by date since about May 2026 (before, they were
    ``day_0.gz`` …, cut off at a tenth). The older hosts had the original files; both were reported gone in 2026.
    """
    return Published(
        name="terabyte",
        title="Criteo 1TB Click Logs",
        page="https://ailab.criteo.com/download-criteo-1tb-click-logs-dataset/",
        targets=tuple(_day(day) for day in days),
    )


def _day(day: int) -> Target:
    kib, md5, text_md5 = _ORIGINALS[day]
    original: dict[str, Any] = {"size": kib << 10, "checksum": f"md5:{md5}"}
    date = datetime.date(2015, 2, 15) + datetime.timedelta(days=day)
    return Target(
        name=f"day_{day}.gz",
        needs=round(1.3 * (kib << 10)),  # Lines made of Parquet files are packed faster and less tightly.
        md5=md5,
        text_md5=text_md5,
        sources=(
            ParquetDay(
                repository="https://huggingface.co/datasets/criteo/CriteoClickLogs",
                folder=f"data/day={date}",
                provenance="named by Criteo's page; reported whole again on 2026-05-12, in use in September 2026",
            ),
            RemoteFile(
                url=f"https://storage.googleapis.com/criteo-cail-datasets/day_{day}.gz",
                provenance="named by Criteo's page from June 2022; reported gone (HTTP 404) in mid-2026",
                **original,
            ),
            RemoteFile(
                url=f"https://sacriteopcail01.z16.web.core.windows.net/day_{day}.gz",
                provenance="Criteo's host around 2021; no later report",
                **original,
            ),
        ),
    )


# (KiB on disk packed, MD5 packed, MD5 of the text) of day_0 … day_23
_ORIGINALS = (
    (15_927_304, "6cef23542552c3195e9e6e2bdbc4c235", "331703bf14b9a699324d589efd676962"),
    (16_292_832, "94b73908ee8f912c175420376c8952db", "1df068493bb19edce48c09a1ce1a7fca"),
    (16_022_296, "c3c0272c26cfaa03d932b2856a751ff5", "a5dec1724865504895e03508d6308046"),
    (14_779_644, "b727ecfaaf482507bb998248833aa4c2", "c6de260d9eb835a2a1866b9931f4c474"),
    (12_514_396, "b99eaa6e324e49d9df4e6f840e76b6d9", "9a41d00282b6b87db890518a86ab001f"),
    (14_169_436, "1294d0a56a90294aebf80133078d9879", "170cba5a53f2b7cea8b75e19f10e152e"),
    (16_753_584, "68586521483313e13aefb29e7b767fdb", "a47640af3fdffdec69c7a61f74e8b4f6"),
    (16_465_452, "a2c1c4bfec20fc88b0b504175a16b644", "b0ff0428ce74fcb3f690f5330b7803d7"),
    (15_845_316, "faabf247fd56140a76effa6a3da63253", "89113bd1eed24775ff1e757feb80447a"),
    (16_195_668, "ee3347a28c1dd2fb2c92094e643c132b", "730903c294a98261beefc5d8c1634fc9"),
    (15_201_768, "d043c2ec0346eb4c71aaae935416688e", "994fb3a9a43c0ebef0e28357a3b34068"),
    (12_698_432, "8d4ba32f0c4f654a3860b6f2ae1a8ea7", "a62384802da42c8e0a82aa0a26e5f99e"),
    (14_029_428, "908480917ed39be2a2ad2e1c339c40b4", "3f4dc3fca55231e7e9cff5a696325a28"),
    (15_953_380, "567d6bfa672dd10a0cf76feaec0cf92b", "2ad1cddf9a1b93a6315ba29ceb31124c"),
    (15_882_872, "ed377357aecaccc5f93c754c4819fd8d", "969bf0ec8cc212fe1816c153161df367"),
    (15_382_724, "8e91f2a8d3d95202dfc3b22b88064c12", "fb44b44d68237d694b56f85f603f52cb"),
    (14_606_256, "387269870bf8ec7d285cf0e8ce82e92e", "866d4b3ef3381fec2c77afee58dcb987"),
    (13_483_480, "48d3538fcf04807e0be4d72072dbda0b", "89e82426b5bc49e93b40d9dbd1bbf7a4"),
    (11_796_984, "f26e23b6ef242f40b0e3fd92c986170c", "294f2d46c8653d36c12c163d9f91b5ac"),
    (13_059_032, "3f6f36657b0ff1258428356451eea6c8", "74bc0f7b0b6dd324ecc029445c875ea3"),
    (16_022_492, "db7ff2b830817d3b10960f02bfb68547", "5b02f47b002cd374613d8e27f2daa7ce"),
    (15_707_044, "f1a4ba7f7a555cb4a7e724a082479f4a", "70dfaf349be746e3ea1a7affe97f40b8"),
    (15_463_520, "848ae20c4eab730ae487acc8ddaf52ba", "c9abe6cbae0b93f6702af27cda53d229"),
    (14_591_792, "a2748bdbc67dd544b3ac470c4f1a52df", "08e251af4f3d1e8771ea15e405f39600"),
)
