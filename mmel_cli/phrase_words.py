"""The closed lists of words by which phrases.py parts an English caption, and what a word of each may be."""

from enum import Enum, auto


class Kind(Enum):
    """What a word can be, as far as lists and endings tell."""

    END = auto()  # a closed word or a mark: of no chunk
    JOIN = auto()
    OF = auto()
    DETERMINER = auto()
    NUMBER = auto()
    ADVERB = auto()
    ADJECTIVE = auto()
    VERB = auto()
    ING = auto()
    ED = auto()
    GENITIVE = auto()  # 's by itself, as tokenised captions have it
    PLAIN = auto()


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _third_person(lemma: str) -> str:
    if lemma.endswith(("s", "sh", "ch", "x", "z", "o")):
        return f"{lemma}es"
    return f"{lemma[:-1]}ies" if lemma.endswith("y") and lemma[-2] not in "aeou" else f"{lemma}s"


CLOSED = _set(
    """
    aboard about above across after against ahead along alongside amid amidst among amongst around as at atop
    because before behind below beneath beside besides between beyond by concerning despite down during except for
    from in inside into like minus near off on onto opposite out outside over past per plus since than through
    throughout till to toward towards under underneath until unto up upon versus via vs with within without
    although but if nor so though unless when whenever where whereas wherever whether while yet
    anybody anyone anything everybody everyone everything he herself him himself hers how i it itself me mine myself
    nobody none nothing oneself ourselves ours she somebody someone something theirs them themselves there they us
    we what whatever which who whom why you yours yourself yourselves
    am are be been being can't cannot could did do does doing done had has have having is may might must shall should
    was were will would
    again alone already also always apart aside away backward backwards else ever forward forwards here indoors
    instead maybe never not now nowhere often once otherwise outdoors outward perhaps please seldom
    sometimes somewhere soon still then today together tomorrow tonight too upside upstairs downstairs
    yesterday
    """
)  # prepositions; conjunctions; pronouns; auxiliaries; adverbs of place and time
SEQUENCES = tuple(
    tuple(words.split())
    for words in (
        "as well as",
        "at least",
        "can be",
        "can see",
        "close by",
        "close to",
        "close up",
        "each other",
        "full of",
        "in front of",
        "in the middle of",
        "left of",
        "next to",
        "no one",
        "on top of",
        "one another",
        "right of",
        "side by side",
        "such as",
        "up close",
    )
)
ARTICLES = _set("a an the my your his her its our their whose")  # and possessives
DETERMINERS = ARTICLES | _set(
    """
    all another any both each either every few fewer less many more most much neither no several some such that
    these this those
    """
)
BEFORE_ARTICLES = _set("all both such many")
SINGULAR = _set("a an one another each every this that")
NUMBERS = _set(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    """
)
ADVERBS = _set("almost back extra just nearly only overhead quite rather upright very")
NOT_ADVERBS = _set(
    """
    ally assembly belly bully butterfly chilly curly dragonfly early elderly family friendly gravelly grizzly hilly
    holly homely italy jelly lively lonely lovely monopoly rally reply silly smelly supply ugly wobbly woolly
    """
)
ADJECTIVES = _set(
    """
    red orange yellow green cyan blue purple white black brown grey gray pink tan beige gold golden silver violet
    teal maroon turquoise dark light bright pale colorful colourful plain striped spotted plaid checkered small
    large big little tiny huge giant tall short long wide narrow round young old older elderly new blond blonde bald
    beautiful pretty cute happy sad hot cold wet dry dirty clean empty open wooden other same different various
    single
    """
)
MEASURES = _set(
    """
    array assortment bunch collection couple crowd dozen dozens flock group groups handful herd hundreds kind line
    lot lots number pair pairs piece pieces pile plenty row rows series set slice slices sort stack team type
    variety
    """
)
_LEMMAS = _set(
    """
    appear argue bend bring carry catch chase chat cheer clap climb compete contain crouch dance depict dig dive drive
    eat fly follow gather gaze get give go graze grab hang hit hold hug juggle jump keep kick kiss kneel laugh lay
    lean leap lie listen look make march observe overlook participate peer perform play pose prepare pull push put
    reach read relax rest ride run say see seem sell sing sit sleep smile speak squat stand stare stretch swim take
    talk teach throw touch try use wade wait walk watch wear
    """
)
_MORE_VERBS = _set(
    """
    ate bent built came caught cleans cooks cut drew drove fell flew flies floats found gave given got held hung
    kept laid lain lands lay led made paints ran rode sails sang sat saw seen serves shown shows
    slept sold spoke stood sung surfs swam swings taken taught threw thrown took travels went won wore works
    worn writes written
    """
)
NOUNS_IN_ING = _set(
    """
    awning bedding building carving ceiling clearing clothing coating crossing decking dining drawing dressing
    duckling dumpling earring engraving evening fencing flooring frosting gathering icing landing lettering lighting
    living meeting morning offspring outing painting paneling parking paving pudding railing roofing scaffolding
    seating setting sibling siding sling spring sting stocking string stuffing swing thing tiling topping towing
    wedding writing
    """
)
NOUNS_IN_ED = _set("biped bobsled daybed flatbed flowerbed hundred infrared moped naked sacred seabed wicked")
PICTURES = _set(
    """
    close-up closeup image images photo photograph photographs photography photos pic picture pictures portrait shot
    shots snapshot view views
    """
)
SHOWING = _set("of show shows showing depict depicts depicting")
LEADING = _set("this that these those here there is are was were it 's it's that's there's here's")

LISTED: dict[str, Kind] = {
    **dict.fromkeys(_LEMMAS | _MORE_VERBS | {_third_person(lemma) for lemma in _LEMMAS}, Kind.VERB),
    **dict.fromkeys(ADJECTIVES, Kind.ADJECTIVE),
    **dict.fromkeys(ADVERBS, Kind.ADVERB),
    **dict.fromkeys(NUMBERS, Kind.NUMBER),
    **dict.fromkeys(DETERMINERS, Kind.DETERMINER),
    **dict.fromkeys(CLOSED, Kind.END),
    **dict.fromkeys(("and", "or", "&", ","), Kind.JOIN),
    "of": Kind.OF,
    "'s": Kind.GENITIVE,
}
"""What each word of a list is."""
