"""What people are told who talk where the server listens, in eight languages. Texts only.

Whoever changes one changes all: each says the same, no more and no less. `short` is what every
session sends in English (emotrace_protocol.events.NOTICE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emotrace_protocol.events import NOTICE
from emotrace_protocol.messages import ProhibitedPurpose


@dataclass(frozen=True, slots=True)
class NoticeText:
    """estimated ... prohibited: headings of the parts. by_modality: what is processed of a person,
    by the modality's name. {seconds}, {days} and {contact} are filled in."""

    title: str
    short: str
    estimated: str
    estimate: str
    mistakes: str
    processed: str
    by_modality: Mapping[str, str]
    kept: str
    not_stored: str
    resumed: str
    recorded: str
    passed_on: str
    whom_to_ask: str
    contact: str
    no_contact: str
    prohibited: str
    purposes: Mapping[str, str]


def _modalities(voice: str, words: str, face: str) -> dict[str, str]:
    return {"acoustic": voice, "lexical": words, "facial": face}


def _purposes(
    employees: str, education: str, recruitment: str, law: str, insurance: str
) -> dict[str, str]:
    return {
        ProhibitedPurpose.EMPLOYEE_MONITORING.value: employees,
        ProhibitedPurpose.EDUCATION_ASSESSMENT.value: education,
        ProhibitedPurpose.RECRUITMENT.value: recruitment,
        ProhibitedPurpose.LAW_ENFORCEMENT.value: law,
        ProhibitedPurpose.INSURANCE.value: insurance,
    }


ENGLISH = "en"

TEXTS: Mapping[str, NoticeText] = {
    ENGLISH: NoticeText(
        title="A machine estimates which emotion is expressed here",
        short=NOTICE,
        estimated="What is estimated",
        estimate="For each utterance: which emotion is expressed, how sure that is, and what the "
        "estimate rests on. Earlier estimates may be revised as the dialogue goes on.",
        mistakes="Estimates can be wrong. Acting, irony, illness, noise, a poor line and an "
        "unfamiliar language or culture mislead the machine. No decision about a person may rest "
        "on its estimates alone.",
        processed="What is processed",
        by_modality=_modalities("the sound of the voice", "the words", "pictures of the face"),
        kept="What is kept",
        not_stored="Nothing is stored unless it is said here. What is processed, and the "
        "estimates, are held in working memory while the session lasts and are then forgotten. "
        "None of it enters a log or a statistic.",
        resumed="If the connection breaks, the session is kept for at most {seconds} seconds, so "
        "that it can go on.",
        recorded="A session is recorded only if whoever started it asked for that and gave "
        "consent. A recording is encrypted. It is deleted after {days} days at the latest, and at "
        "once when whoever started the session asks for it.",
        passed_on="The operator also has the estimates sent to another system.",
        whom_to_ask="Whom to ask",
        contact="Questions and requests go to: {contact}",
        no_contact="The operator of this server has named no contact. Ask whoever offers you this "
        "service.",
        prohibited="What it must not be used for",
        purposes=_purposes(
            "monitoring of employees",
            "assessment of pupils and students",
            "recruitment",
            "law enforcement",
            "insurance",
        ),
    ),
    "de": NoticeText(
        title="Hier schätzt eine Maschine, welche Emotion ausgedrückt wird",
        short="Dies sind Schätzungen ausgedrückter Emotionen durch eine Maschine. Sie sagen nicht, "
        "was ein Mensch fühlt.",
        estimated="Was geschätzt wird",
        estimate="Für jede Äußerung: welche Emotion ausgedrückt wird, wie sicher das ist und "
        "worauf die Schätzung beruht. Frühere Schätzungen können im Verlauf des Gesprächs geändert "
        "werden.",
        mistakes="Schätzungen können falsch sein. Schauspiel, Ironie, Krankheit, Lärm, eine "
        "schlechte Leitung und eine unvertraute Sprache oder Kultur führen die Maschine in die "
        "Irre. Keine Entscheidung über einen Menschen darf allein auf ihren Schätzungen beruhen.",
        processed="Was verarbeitet wird",
        by_modality=_modalities("der Klang der Stimme", "die Worte", "Bilder des Gesichts"),
        kept="Was aufbewahrt wird",
        not_stored="Nichts wird gespeichert, sofern es hier nicht steht. Was verarbeitet wird, und "
        "die Schätzungen liegen im Arbeitsspeicher, solange die Sitzung dauert, und sind danach "
        "vergessen. Nichts davon gelangt in ein Protokoll oder eine Statistik.",
        resumed="Bricht die Verbindung ab, so wird die Sitzung höchstens {seconds} Sekunden lang "
        "aufbewahrt, damit sie weitergehen kann.",
        recorded="Eine Sitzung wird nur aufgezeichnet, wenn das beim Beginn verlangt und "
        "eingewilligt wurde. Eine Aufzeichnung ist verschlüsselt. Sie wird spätestens nach {days} "
        "Tagen gelöscht, und sofort, wenn es verlangt wird, wo die Sitzung begonnen wurde.",
        passed_on="Der Betreiber lässt die Schätzungen auch an ein anderes System senden.",
        whom_to_ask="Wen Sie fragen können",
        contact="Fragen und Anträge an: {contact}",
        no_contact="Der Betreiber dieses Servers hat keine Kontaktstelle genannt. Fragen Sie, wer "
        "Ihnen diesen Dienst anbietet.",
        prohibited="Wofür es nicht verwendet werden darf",
        purposes=_purposes(
            "Überwachung von Beschäftigten",
            "Bewertung von Schülern und Studierenden",
            "Personalauswahl",
            "Strafverfolgung",
            "Versicherungen",
        ),
    ),
    "es": NoticeText(
        title="Aquí una máquina estima qué emoción se expresa",
        short="Estas son estimaciones de la emoción expresada, hechas por una máquina. No dicen lo "
        "que una persona siente.",
        estimated="Qué se estima",
        estimate="Para cada enunciado: qué emoción se expresa, con qué seguridad y en qué se basa "
        "la estimación. Las estimaciones anteriores pueden cambiar a medida que avanza el diálogo.",
        mistakes="Las estimaciones pueden ser erróneas. La actuación, la ironía, la enfermedad, el "
        "ruido, una mala línea y una lengua o cultura poco familiar confunden a la máquina. "
        "Ninguna decisión sobre una persona puede basarse únicamente en sus estimaciones.",
        processed="Qué se trata",
        by_modality=_modalities("el sonido de la voz", "las palabras", "imágenes de la cara"),
        kept="Qué se conserva",
        not_stored="No se almacena nada que no se indique aquí. Lo que se trata y las estimaciones "
        "se mantienen en la memoria de trabajo mientras dura la sesión y después se olvidan. Nada "
        "de ello pasa a un registro ni a una estadística.",
        resumed="Si se interrumpe la conexión, la sesión se conserva como máximo {seconds} "
        "segundos para que pueda continuar.",
        recorded="Una sesión solo se graba si quien la inició lo pidió y dio su consentimiento. La "
        "grabación está cifrada. Se borra a más tardar después de {days} días, y de inmediato "
        "cuando lo pide quien inició la sesión.",
        passed_on="El operador también hace enviar las estimaciones a otro sistema.",
        whom_to_ask="A quién preguntar",
        contact="Preguntas y solicitudes a: {contact}",
        no_contact="El operador de este servidor no ha indicado ningún contacto. Pregunte a quien "
        "le ofrece este servicio.",
        prohibited="Para qué no debe usarse",
        purposes=_purposes(
            "vigilancia de empleados",
            "evaluación de alumnos y estudiantes",
            "selección de personal",
            "aplicación de la ley",
            "seguros",
        ),
    ),
    "fr": NoticeText(
        title="Ici, une machine estime quelle émotion est exprimée",
        short="Ce sont des estimations de l'émotion exprimée, faites par une machine. Elles ne "
        "disent pas ce qu'une personne ressent.",
        estimated="Ce qui est estimé",
        estimate="Pour chaque énoncé : quelle émotion est exprimée, avec quelle certitude et sur "
        "quoi repose l'estimation. Les estimations précédentes peuvent être révisées au fil du "
        "dialogue.",
        mistakes="Les estimations peuvent être fausses. Le jeu d'acteur, l'ironie, la maladie, le "
        "bruit, une mauvaise ligne et une langue ou une culture peu familière trompent la machine. "
        "Aucune décision concernant une personne ne doit reposer sur ses seules estimations.",
        processed="Ce qui est traité",
        by_modality=_modalities("le son de la voix", "les mots", "des images du visage"),
        kept="Ce qui est conservé",
        not_stored="Rien n'est stocké, sauf ce qui est indiqué ici. Ce qui est traité et les "
        "estimations restent en mémoire vive pendant la session, puis sont oubliés. Rien de cela "
        "n'entre dans un journal ou une statistique.",
        resumed="Si la connexion est interrompue, la session est conservée au plus {seconds} "
        "secondes, afin qu'elle puisse reprendre.",
        recorded="Une session n'est enregistrée que si la personne qui l'a commencée l'a demandé "
        "et y a consenti. Un enregistrement est chiffré. Il est supprimé au plus tard après {days} "
        "jours, et immédiatement à la demande de la personne qui a commencé la session.",
        passed_on="L'exploitant fait aussi envoyer les estimations à un autre système.",
        whom_to_ask="À qui s'adresser",
        contact="Questions et demandes : {contact}",
        no_contact="L'exploitant de ce serveur n'a indiqué aucun contact. Adressez-vous à qui vous "
        "propose ce service.",
        prohibited="Ce à quoi il ne doit pas servir",
        purposes=_purposes(
            "surveillance des salariés",
            "évaluation des élèves et des étudiants",
            "recrutement",
            "répression des infractions",
            "assurance",
        ),
    ),
    "it": NoticeText(
        title="Qui una macchina stima quale emozione viene espressa",
        short="Queste sono stime dell'emozione espressa, fatte da una macchina. Non dicono che "
        "cosa prova una persona.",
        estimated="Che cosa viene stimato",
        estimate="Per ogni enunciato: quale emozione viene espressa, con quale sicurezza e su che "
        "cosa si basa la stima. Le stime precedenti possono cambiare nel corso del dialogo.",
        mistakes="Le stime possono essere sbagliate. La recitazione, l'ironia, la malattia, il "
        "rumore, una cattiva linea e una lingua o cultura poco familiare ingannano la macchina. "
        "Nessuna decisione su una persona può basarsi soltanto sulle sue stime.",
        processed="Che cosa viene trattato",
        by_modality=_modalities("il suono della voce", "le parole", "immagini del viso"),
        kept="Che cosa viene conservato",
        not_stored="Non viene memorizzato nulla che non sia indicato qui. Ciò che viene trattato e "
        "le stime restano nella memoria di lavoro per la durata della sessione e poi vengono "
        "dimenticati. Nulla di tutto ciò entra in un registro o in una statistica.",
        resumed="Se la connessione si interrompe, la sessione viene conservata al massimo per "
        "{seconds} secondi, perché possa continuare.",
        recorded="Una sessione viene registrata solo se chi l'ha iniziata lo ha chiesto e ha dato "
        "il consenso. La registrazione è cifrata. Viene cancellata al più tardi dopo {days} "
        "giorni, e subito quando lo chiede chi ha iniziato la sessione.",
        passed_on="Il gestore fa inviare le stime anche a un altro sistema.",
        whom_to_ask="A chi rivolgersi",
        contact="Domande e richieste a: {contact}",
        no_contact="Il gestore di questo server non ha indicato alcun contatto. Si rivolga a chi "
        "Le offre questo servizio.",
        prohibited="Per che cosa non deve essere usato",
        purposes=_purposes(
            "sorveglianza dei dipendenti",
            "valutazione di alunni e studenti",
            "selezione del personale",
            "attività di contrasto",
            "assicurazioni",
        ),
    ),
    "nl": NoticeText(
        title="Hier schat een machine welke emotie wordt geuit",
        short="Dit zijn schattingen van geuite emoties, gemaakt door een machine. Ze zeggen niet "
        "wat iemand voelt.",
        estimated="Wat er wordt geschat",
        estimate="Voor elke uiting: welke emotie wordt geuit, hoe zeker dat is en waarop de "
        "schatting berust. Eerdere schattingen kunnen in de loop van het gesprek worden herzien.",
        mistakes="Schattingen kunnen onjuist zijn. Acteren, ironie, ziekte, lawaai, een slechte "
        "verbinding en een onbekende taal of cultuur brengen de machine op een dwaalspoor. Geen "
        "beslissing over een mens mag alleen op haar schattingen berusten.",
        processed="Wat er wordt verwerkt",
        by_modality=_modalities("de klank van de stem", "de woorden", "beelden van het gezicht"),
        kept="Wat er wordt bewaard",
        not_stored="Er wordt niets opgeslagen dat hier niet staat. Wat wordt verwerkt en de "
        "schattingen blijven in het werkgeheugen zolang de sessie duurt en worden daarna vergeten. "
        "Niets ervan komt in een logboek of een statistiek.",
        resumed="Als de verbinding wegvalt, wordt de sessie ten hoogste {seconds} seconden "
        "bewaard, zodat zij kan doorgaan.",
        recorded="Een sessie wordt alleen opgenomen als degene die haar begon daarom vroeg en "
        "toestemming gaf. Een opname is versleuteld. Zij wordt uiterlijk na {days} dagen gewist, "
        "en meteen wanneer degene die de sessie begon daarom vraagt.",
        passed_on="De beheerder laat de schattingen ook naar een ander systeem sturen.",
        whom_to_ask="Wie u kunt vragen",
        contact="Vragen en verzoeken aan: {contact}",
        no_contact="De beheerder van deze server heeft geen contact genoemd. Vraag het degene die "
        "u deze dienst aanbiedt.",
        prohibited="Waarvoor het niet mag worden gebruikt",
        purposes=_purposes(
            "toezicht op werknemers",
            "beoordeling van leerlingen en studenten",
            "werving en selectie",
            "rechtshandhaving",
            "verzekeringen",
        ),
    ),
    "pl": NoticeText(
        title="Maszyna szacuje tu, jaka emocja jest wyrażana",
        short="Są to szacunki wyrażanych emocji, dokonane przez maszynę. Nie mówią one, co "
        "człowiek czuje.",
        estimated="Co jest szacowane",
        estimate="Dla każdej wypowiedzi: jaka emocja jest wyrażana, z jaką pewnością i na czym "
        "opiera się szacunek. Wcześniejsze szacunki mogą zmieniać się w trakcie rozmowy.",
        mistakes="Szacunki mogą być błędne. Gra aktorska, ironia, choroba, hałas, złe połączenie "
        "oraz nieznany język lub kultura wprowadzają maszynę w błąd. Żadna decyzja dotycząca "
        "człowieka nie może opierać się wyłącznie na jej szacunkach.",
        processed="Co jest przetwarzane",
        by_modality=_modalities("dźwięk głosu", "słowa", "obrazy twarzy"),
        kept="Co jest przechowywane",
        not_stored="Nie zapisuje się niczego, co nie jest tu wymienione. To, co jest przetwarzane, "
        "oraz szacunki pozostają w pamięci operacyjnej przez czas trwania sesji, a potem są "
        "zapominane. Nic z tego nie trafia do dzienników ani statystyk.",
        resumed="Jeśli połączenie zostanie przerwane, sesja jest przechowywana najwyżej przez "
        "{seconds} s, aby mogła być kontynuowana.",
        recorded="Sesja jest nagrywana tylko wtedy, gdy osoba, która ją rozpoczęła, o to poprosiła "
        "i wyraziła zgodę. Nagranie jest zaszyfrowane. Jest usuwane najpóźniej po upływie {days} "
        "dni, a na żądanie osoby, która rozpoczęła sesję, natychmiast.",
        passed_on="Operator przesyła szacunki także do innego systemu.",
        whom_to_ask="Kogo pytać",
        contact="Pytania i wnioski: {contact}",
        no_contact="Operator tego serwera nie podał danych kontaktowych. Proszę zapytać podmiot, "
        "który oferuje tę usługę.",
        prohibited="Do czego nie wolno tego używać",
        purposes=_purposes(
            "monitorowanie pracowników",
            "ocenianie uczniów i studentów",
            "rekrutacja",
            "ściganie przestępstw",
            "ubezpieczenia",
        ),
    ),
    "pt": NoticeText(
        title="Aqui, uma máquina estima que emoção é expressa",
        short="Estas são estimativas da emoção expressa, feitas por uma máquina. Não dizem o que "
        "uma pessoa sente.",
        estimated="O que é estimado",
        estimate="Para cada enunciado: que emoção é expressa, com que certeza e em que assenta a "
        "estimativa. As estimativas anteriores podem ser revistas ao longo do diálogo.",
        mistakes="As estimativas podem estar erradas. A representação, a ironia, a doença, o "
        "ruído, uma má ligação e uma língua ou cultura pouco familiar induzem a máquina em erro. "
        "Nenhuma decisão sobre uma pessoa pode assentar apenas nas suas estimativas.",
        processed="O que é tratado",
        by_modality=_modalities("o som da voz", "as palavras", "imagens do rosto"),
        kept="O que é guardado",
        not_stored="Nada é armazenado que não seja aqui indicado. O que é tratado e as estimativas "
        "ficam na memória de trabalho enquanto dura a sessão e são depois esquecidos. Nada disso "
        "entra num registo ou numa estatística.",
        resumed="Se a ligação for interrompida, a sessão é guardada durante {seconds} segundos, no "
        "máximo, para que possa continuar.",
        recorded="Uma sessão só é gravada se quem a iniciou o pediu e deu o seu consentimento. A "
        "gravação é cifrada. É apagada o mais tardar após {days} dias, e de imediato quando quem "
        "iniciou a sessão o pede.",
        passed_on="O operador também manda enviar as estimativas para outro sistema.",
        whom_to_ask="A quem perguntar",
        contact="Perguntas e pedidos para: {contact}",
        no_contact="O operador deste servidor não indicou nenhum contacto. Pergunte a quem lhe "
        "oferece este serviço.",
        prohibited="Para que não pode ser usado",
        purposes=_purposes(
            "vigilância de trabalhadores",
            "avaliação de alunos e estudantes",
            "recrutamento",
            "aplicação da lei",
            "seguros",
        ),
    ),
}
