"""All kinds of inputs."""

from .marker import MarkerInput
from .mix import MixInput
from .picture import PictureInput
from .prompt import TextInput
from .sound import SoundInput
from .word import WordInput

Input = TextInput | WordInput | MarkerInput | PictureInput | SoundInput | MixInput
"""What a conditioner takes."""
