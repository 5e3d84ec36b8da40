"""Write the objects of `scenes/*`: `python scripts/scene_objects.py`. Their sizes are measured on the drawings."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from interplay.data.emoji import all_emoji
from interplay.data.scenes.sprites import Sprites
from interplay.files import write_text

FILE = Path(__file__).parents[1] / "src/interplay/data/scenes/objects.csv"
COLUMNS = ("name", "kind", "code", "glyph_width", "glyph_height", "picture_width", "picture_height")

NAMES = {
    "animal": """
        ant, bat, bear=bear face, bee=honeybee, bird, bison, butterfly, camel=dromedary camel, cat,
        chipmunk, cow, crab, crocodile, deer, dog, dolphin, donkey, dove, duck, eagle, elephant,
        fish, flamingo, fox=fox face, frog=frog face, giraffe=giraffe face, goat, gorilla,
        hamster=hamster face, hedgehog, horse, kangaroo, koala, lion=lion face, lizard, llama,
        lobster, monkey, mouse, octopus, owl, panda=panda face, parrot, peacock, penguin, pig,
        rabbit, raccoon, rhinoceros, rooster, scorpion, seal, shark, sheep, snail, snake, spider,
        squid, swan, tiger, turkey, turtle, whale, wolf=wolf face
    """,
    "food": """
        apple=red apple, aubergine, avocado, bagel, banana, burrito, carrot, cocktail=cocktail
        glass, coconut, cookie, croissant, cucumber, cupcake, doughnut, dumpling, egg, hamburger,
        hot dog, lemon, lollipop, mango, mushroom, onion, peach, pear, pie, pineapple, pizza=slice
        of pizza, potato, pretzel, sandwich, strawberry, taco, tomato, waffle, watermelon
    """,
    "thing": """
        accordion, airplane, anchor, axe, backpack=school satchel, balloon, banjo, basket, bathtub,
        battery, bed, bell, bicycle, bomb, bone, book=closed book, brain, briefcase, broom, bucket,
        bus, cactus, calendar, camera, candle, canoe, car=automobile, castle=european castle, chair,
        church, cloud, comet, crayon, crown, dagger, door, dress, drum=drum with drumsticks, ear,
        envelope, factory, flute, foot, gear, guitar, hammer, handbag, helicopter, hook, hourglass,
        house=house building, key, keyboard, kite, ladder, leaf=maple leaf, lipstick, lock, magnet,
        microphone, microscope, motorcycle, mountain, newspaper, paintbrush, paperclip, parachute,
        pencil, pill, planet=ringed planet, printer, radio, razor, ribbon, rocket, rose,
        ruler=straight ruler, sailboat, saxophone, scarf, screwdriver, scroll, shield, ship,
        shirt=t-shirt, skateboard, snowflake, snowman, stethoscope, sunflower, syringe,
        telephone=black telephone, telescope, television, tent, toilet, tooth, toothbrush, tractor,
        train, tree=deciduous tree, trophy, truck=delivery truck, trumpet, tulip, umbrella, violin,
        volcano, watch, wheel, window, wrench
    """,
    "shape": """
        arrow, circle, crescent, cross, diamond, heart, hexagon, pentagon, ring, square, star,
        triangle
    """,
}
"""What texts call an object, with the name of its emoji where that is another one."""


def main() -> None:
    """Write the file anew."""
    codes = {one.name: one.code for one in all_emoji()}
    rows = []
    for kind, listed in NAMES.items():
        for entry in " ".join(listed.split()).split(", "):
            name, _, emoji = entry.partition("=")
            rows.append((name, kind, "" if kind == "shape" else codes[emoji or name]))
    sprites = Sprites(code for _, _, code in rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, kind, code in rows:
        picture = sprites.picture(code).size if code else (0, 0)
        table.writerow((name, kind, code, *sprites.glyph(name, code).size, *picture))
    write_text(FILE, text.getvalue())
    print(f"{len(rows)} objects in {FILE}")


if __name__ == "__main__":
    main()
