"""The words and line patterns of the generated songs: ordinary words, no lyrics."""

# A slot `{kind}` takes a word of that kind, of the genre or a common one.
PATTERNS = (
    "I {verb} the {noun} of the {adjective} {noun}",
    "You {verb} my {noun}, and I {verb} your {noun}",
    "Don't {verb} the {noun} when the {noun} is {adjective}",
    "We're going to {verb} that {adjective} {noun}",
    "There's a {noun} in the {adjective} {noun} tonight",
    "I can't {verb} this {noun}, it's too {adjective}!",
    "Oh, the {noun} won't {verb} me, no",
    "She said: {verb} me a {noun}, {verb} me a {noun}",
    "{adjective} {noun}, {adjective} {noun}, hey hey",
    "Who will {verb} the {noun} if I {verb} you?",
    "I've got 2 {noun} and one {adjective} {noun}",
    "They'd {verb} the {noun}... but I'll {verb} it too",
    "Let us {verb} in the {noun}, {verb} by the {noun}",
    "Every {noun} I {verb} is a {adjective} {noun}",
    "You never {verb} a {noun} so {adjective}",
    "And the {noun}'s still {adjective} — {verb} it again",
    "Runnin' to the {noun}, {verb} 'til it's {adjective}",
    "'Cause I {verb} and you {verb} the {noun} (yeah)",
    "Half-{adjective} {noun}, well-{adjective} {noun}",
    "How could we {verb} what the {noun} had {adjective}?",
)


def _kinds(nouns: str, verbs: str, adjectives: str) -> dict[str, tuple[str, ...]]:
    return {
        "noun": tuple(nouns.split()),
        "verb": tuple(verbs.split()),
        "adjective": tuple(adjectives.split()),
    }


COMMON = _kinds(
    "apple arrow autumn balcony basket bell blanket bottle branch bread bridge brother button "
    "candle candy carpet castle chair circle clock cloud coffee corner cradle curtain daughter "
    "desert diamond door dream dust earth echo envelope evening eye feather finger fire flower "
    "forest friend garden ghost glass hand harbor heart hill hour house island jacket journey key "
    "kitchen ladder lake lamp letter light line lion meadow memory mirror moment moon morning "
    "mountain mouth music night ocean orchard page painting paper path pearl picture pillow place "
    "pocket promise question rain reason ribbon river road roof room rose sail sand sea season "
    "secret shadow shoulder silence silver sister sky sleep smile snow song sound spring star "
    "station stone story stranger street summer sun table tear thread thunder ticket tower train "
    "tree valley village voice wall water wave weather wheel whisper wind window wing winter wish "
    "wonder word world year",
    "answer ask believe borrow break breathe bring build burn carry catch change chase climb "
    "close color count cover cross dance dream draw drink fall feel fight find follow forget "
    "forgive gather greet grow guard guess hear help hide hold hope join jump kiss know "
    "laugh lead learn leave lift listen lose love mend miss need open paint pass play pray promise "
    "pull push reach read remember rest return run save search send shake share shine sing sleep "
    "smile speak spend stand start stay steal stop study tell thank think throw touch trade trust "
    "try turn visit wait wake walk want wash watch wear wish wonder write",
    "ancient bitter blue bold brave brief bright broken calm careful clean clear clever cold cool "
    "crooked dark dear deep distant dry early easy empty endless faded fair faithful far fast "
    "fearless fine foreign fragile free fresh gentle glad golden gray great green happy hard heavy "
    "hidden hollow honest hot humble hungry kind late lazy light little lonely long lost loud low "
    "lucky mild narrow new noisy old open pale patient plain poor pretty proud pure quick quiet "
    "rare ready red rich ripe rough round sad safe secret shy silent simple slow small smooth soft "
    "sour steady still strange strong sudden sweet tall tender thin tired true warm weak white "
    "wide wild wise wonderful young",
)

# In the order of the weights in `synthetic`: most songs first.
GENRES = {
    "Rock": _kinds(
        "guitar engine steel lightning rebel chain highway scream anthem razor grave machine "
        "hammer amplifier wreck riot siren iron blood drum",
        "crash shout explode smash bleed roar rage ride shatter howl",
        "electric rusty savage violent restless furious burned reckless black stormy",
    ),
    "Pop": _kinds(
        "lipstick weekend party perfume balloon mirrorball crush glitter phone summertime sugar "
        "radio boyfriend girlfriend photograph dancefloor sparkle cherry magic butterfly",
        "sparkle glow text twirl flirt blush adore tease celebrate giggle",
        "perfect pink dazzling gorgeous crazy fabulous neon shiny sugary dreamy",
    ),
    "Hip Hop": _kinds(
        "block hustle rhyme cash crew mic sneaker chain throne bass corner rapper beat flow dollar "
        "game haters pavement boss turntable",
        "hustle flex spit grind stack rhyme brag bounce roll freestyle",
        "fresh dope wicked raw paid real fly grimy slick major",
    ),
    "Funk Carioca": _kinds(
        "favela speaker subwoofer hillside carioca bikini motorcycle beach crowd dancer whistle "
        "rooftop loudspeaker parade alley groove hips bassline sunset DJ",
        "shake wiggle grind drop bounce squat stomp sway tremble thump",
        "sweaty sunburnt booming nonstop shameless bouncing spicy tanned rowdy pounding",
    ),
    "Samba": _kinds(
        "carnival tambourine feather drumline parade costume mango avenue percussion lagoon guava "
        "sambista rhythm orchid coconut rooster confetti mandolin hammock bay",
        "samba parade sway drum strut stroll hum tap swing shuffle",
        "tropical festive feathered swaying joyful barefoot rhythmic sunlit breezy graceful",
    ),
    "Sertanejo": _kinds(
        "cowboy saddle ranch cattle rodeo accordion farm boots pickup tractor barn pasture fence "
        "horse cornfield hat fiddle lasso sunrise gate",
        "gallop lasso plow harvest saddle mow herd milk sow whittle",
        "dusty rural homesick weathered countrified muddy leather stubborn grassy wooden",
    ),
}

_PORTUGUESE = (
    "a água amanhã amigo aqui caminho canção casa chuva cidade coração de dia dizer ela estrada "
    "estrela eu flor hoje janela lá longe lua luz mar menina mesa mundo não noite nunca o olhar "
    "onde para porta pra praia que quero rua saudade sempre sol sonho tempo terra uma vento vida "
    "voltar você"
)
PORTUGUESE = tuple(_PORTUGUESE.split())

_SPANISH = (
    "agua amigo aquí calle camino canción casa cielo ciudad corazón de día ella en estrella flor "
    "hoy la lejos lluvia luna luz mañana mar mesa mi mundo noche nunca ojos para playa puerta que "
    "quiero siempre sol sueño tiempo tierra una ventana viento vida volver yo"
)
SPANISH = tuple(_SPANISH.split())
