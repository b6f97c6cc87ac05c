"""Where pictures are dropped, and where those that were drawn are shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QImage, QImageReader, QKeyEvent, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QWidget

THUMBNAIL = 56
"""Pixels of a side."""
GAP = 12
BACKDROP, FAINT = QColor("#1e2127"), QColor("#8b93a1")


def dropped_files(data: QMimeData) -> list[Path]:
    """The files and folders of this machine among what is dropped."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


class FileDrop(QListWidget):
    """Takes the files of one option, by drop or by a click, shows them small, and lets go of one by Delete.

    A file is not opened here, beyond its thumbnail: whether it will do, the pipeline says.
    """

    def __init__(self, hint: str, several: bool):
        super().__init__()
        self._hint, self._several = hint, several
        self.setAcceptDrops(True)
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.setFixedHeight(THUMBNAIL + 34)
        self.setMovement(QListWidget.Movement.Static)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)

    def paths(self) -> list[Path]:
        """Those that it holds, in their order."""
        return [self.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.count())]

    @property
    def has_room(self) -> bool:
        """Whether one more takes no other's place."""
        return self._several or not self.count()

    def add(self, path: Path) -> None:
        """One more; where one is all that is taken, it takes the place of the last."""
        if not self._several:
            self.clear()
        item = QListWidgetItem(_thumbnail(path), path.name)
        item.setData(Qt.ItemDataRole.UserRole, path)
        item.setSizeHint(QSize(THUMBNAIL + 24, THUMBNAIL + 22))
        item.setToolTip(str(path))
        self.addItem(item)

    def mousePressEvent(self, event: Any) -> None:
        """A click beside the files asks for some."""
        super().mousePressEvent(event)
        if self.itemAt(event.position().toPoint()) is None:
            for name in QFileDialog.getOpenFileNames(self, self._hint)[0]:
                self.add(Path(name))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Delete lets go of the one that is marked."""
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            for item in self.selectedItems():
                self.takeItem(self.row(item))
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: Any) -> None:
        """Files are welcome."""
        if dropped_files(event.mimeData()):
            event.acceptProposedAction()

    dragMoveEvent = dragEnterEvent

    def dropEvent(self, event: Any) -> None:
        """Takes them."""
        for path in dropped_files(event.mimeData()):
            self.add(path)
        event.acceptProposedAction()

    def paintEvent(self, event: QPaintEvent) -> None:
        """The files, or what to drop here."""
        super().paintEvent(event)
        if not self.count():
            painter = QPainter(self.viewport())
            painter.setPen(FAINT)
            text = f"{self._hint}\ndrop here, or click"
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, text)


def _thumbnail(path: Path) -> QIcon:
    """Small before it is decoded, as far as the format can."""
    reader = QImageReader(str(path))
    reader.setAutoTransform(True)
    if (size := reader.size()).isValid():
        reader.setScaledSize(size.scaled(THUMBNAIL, THUMBNAIL, Qt.AspectRatioMode.KeepAspectRatio))
    return QIcon(QPixmap.fromImage(reader.read()))


class Canvas(QWidget):
    """Shows what was drawn, several pictures in a grid; texts and words where there is no picture."""

    def __init__(self) -> None:
        super().__init__()
        self._pictures: list[QImage] = []
        self._words = ""
        self.setMinimumSize(320, 320)

    @property
    def pictures(self) -> list[QImage]:
        """Those that it shows."""
        return self._pictures

    @property
    def words(self) -> str:
        """What it says."""
        return self._words

    def show_pictures(self, pictures: Sequence[QImage], words: str = "") -> None:
        """These in the place of those before, and words below them."""
        self._pictures, self._words = list(pictures), words
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """All of it, as large as fits."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.rect(), BACKDROP)
        whole = self.rect().adjusted(GAP, GAP, -GAP, -GAP)
        if self._words:
            centred = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            below = QRect(whole.left(), whole.bottom() - 48, whole.width(), 48)
            painter.setPen(FAINT)
            painter.drawText(below if self._pictures else whole, centred, self._words)
            whole.setBottom(below.top())
        for picture, cell in zip(self._pictures, _cells(whole, len(self._pictures)), strict=True):
            size = picture.size().scaled(cell.size().toSize(), Qt.AspectRatioMode.KeepAspectRatio)
            place = QRectF(0, 0, size.width(), size.height())
            place.moveCenter(cell.center())
            painter.drawImage(place, picture)


def _cells(whole: QRect, count: int) -> list[QRectF]:
    """A grid of so many, as square as it can be."""
    columns = next(side for side in range(1, count + 2) if side * side >= count)
    rows = -(-count // max(1, columns))
    width, height = (whole.width() + GAP) / max(1, columns), (whole.height() + GAP) / max(1, rows)
    return [
        QRectF(whole.x() + number % columns * width, whole.y() + number // columns * height, width - GAP, height - GAP)
        for number in range(count)
    ]
