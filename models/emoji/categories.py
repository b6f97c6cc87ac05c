"""Kinds of pictures, after the groups of Unicode's emoji list: what a score is averaged over.

Each of the 64 pictures of the vocabulary and of the 64 held-out subjects is of one kind.
"""

from functools import cache

KINDS = {
    "food": """red apple, banana, grapes, watermelon, strawberry, cherries, pineapple, avocado, eggplant, carrot,
        ear of corn, mushroom, pizza, hamburger, doughnut, pretzel, beer mug, birthday cake, broccoli, cheese wedge,
        cookie, cupcake, ice cream, lemon, sushi, tomato""",
    "animals": """frog, panda, lion, penguin, octopus, crab, dolphin, butterfly, ladybug, turtle, snake, elephant,
        giraffe, zebra, fox, owl, cow face, flamingo, hatching chick, honeybee, koala, parrot, peacock, pig face, snail,
        tropical fish, unicorn, whale""",
    "plants": """cactus, sunflower, rose, evergreen tree, maple leaf, palm tree, potted plant, tulip, Christmas tree,
        jack-o-lantern""",
    "travel and sky": """bus, ambulance, tractor, bicycle, locomotive, rocket, helicopter, sailboat, car, anchor, house,
        rainbow, fire, castle, circus tent, flying saucer, fountain, high voltage, motor scooter, police car,
        ringed planet, ship, tent, volcano""",
    "play and music": """balloon, gift, soccer ball, guitar, trumpet, artist palette, basketball, bullseye,
        crystal ball, kite, radio, teddy bear, trophy, violin""",
    "things to wear": """crown, gem stone, running shoe, dress, glasses, graduation cap, t-shirt, top hat, watch""",
    "tools": """key, bell, light bulb, camera, scissors, bomb, hammer, magnet, money bag, pill, television""",
    "figures": """alien, ghost, heart with arrow, robot, Santa Claus, smiling face with sunglasses""",
}


@cache
def kinds() -> dict[str, str]:
    """The kind of every picture, by the picture's key."""
    return {" ".join(key.split()): kind for kind, keys in KINDS.items() for key in keys.split(",")}
