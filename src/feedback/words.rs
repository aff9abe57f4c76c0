//! What the pages say, in the languages that they speak. A topic's own title is the Dataset's.

use std::collections::BTreeMap;

/// The words of one language.
pub struct Words {
    pub language: &'static str,
    pub preferences: &'static str,
    pub preferences_intro: &'static str,
    pub save: &'static str,
    pub saved: &'static str,
    pub nothing: &'static str,
    pub nothing_intro: &'static str,
    pub pending: &'static str,
    pub always: &'static str,
    pub email: &'static str,
    pub sms: &'static str,
    pub push: &'static str,
    pub postal: &'static str,
    pub confirm: &'static str,
    pub confirm_ask: &'static str,
    pub confirmed: &'static str,
    pub confirm_gone: &'static str,
    pub unknown: &'static str,
    pub try_again: &'static str,
    pub erased: &'static str,
}

const ALL: [Words; 5] = [
    Words {
        language: "en",
        preferences: "What you want to hear about",
        preferences_intro: "Choose what you get, and how. It holds from the next message on.",
        save: "Save",
        saved: "Your choice is saved.",
        nothing: "Nothing at all",
        nothing_intro: "You do not want any of these messages any more, by whatever way?",
        pending: "to be confirmed by you",
        always: "What you get because of something you ordered or asked for goes on:",
        email: "Email",
        sms: "Text message",
        push: "Notification",
        postal: "Letter",
        confirm: "Yes, I want this",
        confirm_ask: "Do you want these messages?",
        confirmed: "Thank you, it is confirmed.",
        confirm_gone: "This request does not hold any more. Please sign up again if you want these messages.",
        unknown: "This link is not complete. Please copy it whole from the message.",
        try_again: "This did not work. Please try again in a moment.",
        erased: "We keep nothing about you, and you get no messages.",
    },
    Words {
        language: "it",
        preferences: "Di che cosa vuoi sapere",
        preferences_intro: "Scegli che cosa ricevere e come. Vale dal prossimo messaggio.",
        save: "Salva",
        saved: "La tua scelta è salvata.",
        nothing: "Niente di niente",
        nothing_intro: "Non vuoi più nessuno di questi messaggi, in nessun modo?",
        pending: "da confermare da parte tua",
        always: "Quello che ricevi per qualcosa che hai ordinato o chiesto continua:",
        email: "E-mail",
        sms: "SMS",
        push: "Notifica",
        postal: "Lettera",
        confirm: "Sì, lo voglio",
        confirm_ask: "Vuoi ricevere questi messaggi?",
        confirmed: "Grazie, è confermato.",
        confirm_gone: "Questa richiesta non vale più. Se vuoi questi messaggi, iscriviti di nuovo.",
        unknown: "Questo link non è completo. Copialo per intero dal messaggio.",
        try_again: "Non ha funzionato. Riprova tra un momento.",
        erased: "Non conserviamo nulla di te e non ricevi messaggi.",
    },
    Words {
        language: "de",
        preferences: "Worüber Sie etwas hören möchten",
        preferences_intro: "Wählen Sie, was Sie bekommen und wie. Es gilt ab der nächsten Nachricht.",
        save: "Speichern",
        saved: "Ihre Wahl ist gespeichert.",
        nothing: "Gar nichts",
        nothing_intro: "Sie möchten keine dieser Nachrichten mehr, auf keinem Weg?",
        pending: "von Ihnen zu bestätigen",
        always: "Was Sie bekommen, weil Sie etwas bestellt oder angefragt haben, geht weiter:",
        email: "E-Mail",
        sms: "SMS",
        push: "Mitteilung",
        postal: "Brief",
        confirm: "Ja, das möchte ich",
        confirm_ask: "Möchten Sie diese Nachrichten?",
        confirmed: "Danke, es ist bestätigt.",
        confirm_gone: "Diese Anfrage gilt nicht mehr. Melden Sie sich neu an, wenn Sie diese Nachrichten möchten.",
        unknown: "Dieser Link ist nicht vollständig. Bitte kopieren Sie ihn ganz aus der Nachricht.",
        try_again: "Das hat nicht geklappt. Bitte versuchen Sie es gleich noch einmal.",
        erased: "Wir speichern nichts über Sie, und Sie bekommen keine Nachrichten.",
    },
    Words {
        language: "fr",
        preferences: "Ce que vous voulez recevoir",
        preferences_intro: "Choisissez ce que vous recevez, et comment. Cela vaut dès le prochain message.",
        save: "Enregistrer",
        saved: "Votre choix est enregistré.",
        nothing: "Rien du tout",
        nothing_intro: "Vous ne voulez plus aucun de ces messages, par aucun moyen ?",
        pending: "à confirmer par vous",
        always: "Ce que vous recevez pour une commande ou une demande continue :",
        email: "E-mail",
        sms: "SMS",
        push: "Notification",
        postal: "Courrier",
        confirm: "Oui, je le veux",
        confirm_ask: "Voulez-vous ces messages ?",
        confirmed: "Merci, c’est confirmé.",
        confirm_gone: "Cette demande n’est plus valable. Inscrivez-vous à nouveau si vous voulez ces messages.",
        unknown: "Ce lien n’est pas complet. Copiez-le en entier depuis le message.",
        try_again: "Cela n’a pas fonctionné. Réessayez dans un instant.",
        erased: "Nous ne gardons rien sur vous et vous ne recevez aucun message.",
    },
    Words {
        language: "es",
        preferences: "De qué quieres saber",
        preferences_intro: "Elige qué recibes y cómo. Vale desde el próximo mensaje.",
        save: "Guardar",
        saved: "Tu elección está guardada.",
        nothing: "Nada en absoluto",
        nothing_intro: "¿Ya no quieres ninguno de estos mensajes, por ningún medio?",
        pending: "por confirmar por ti",
        always: "Lo que recibes por algo que pediste o solicitaste continúa:",
        email: "Correo electrónico",
        sms: "SMS",
        push: "Notificación",
        postal: "Carta",
        confirm: "Sí, lo quiero",
        confirm_ask: "¿Quieres estos mensajes?",
        confirmed: "Gracias, está confirmado.",
        confirm_gone: "Esta solicitud ya no vale. Suscríbete de nuevo si quieres estos mensajes.",
        unknown: "Este enlace no está completo. Cópialo entero del mensaje.",
        try_again: "No ha funcionado. Inténtalo de nuevo en un momento.",
        erased: "No guardamos nada sobre ti y no recibes mensajes.",
    },
];

impl Words {
    /// The words of a language such as `it-CH`; English where it is not spoken.
    pub fn of(locale: &str) -> &'static Self {
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        ALL.iter().find(|words| words.language.eq_ignore_ascii_case(language)).unwrap_or(&ALL[0])
    }

    /// What a medium is called.
    pub fn medium(&self, medium: &str) -> String {
        match medium {
            "email" => self.email,
            "sms" => self.sms,
            "push" => self.push,
            "postal" => self.postal,
            other => other,
        }
        .to_owned()
    }
}

/// The first language that a browser prefers (RFC 9110, section 12.5.4), as far as it stands first there.
pub fn preferred(accept_language: Option<&str>) -> String {
    let first = accept_language.and_then(|text| text.split([',', ';']).next()).unwrap_or_default().trim();
    let is_tag =
        !first.is_empty() && first.len() <= 35 && first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_tag { first.to_owned() } else { "en".to_owned() }
}

/// A title by locale: of the locale, of its language, in English, or the first there is.
pub fn title<'t>(titles: &'t BTreeMap<String, String>, locale: &str, name: &'t str) -> &'t str {
    let find = |wanted: &str| titles.iter().find(|(tag, _)| tag.eq_ignore_ascii_case(wanted)).map(|(_, title)| title);
    let language = locale.split(['-', '_']).next().unwrap_or_default();
    let found = find(locale).or_else(|| find(language)).or_else(|| find("en")).or_else(|| titles.values().next());
    found.map_or(name, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_falls_back() {
        let titles = [("en", "Offers"), ("it", "Offerte")].map(|(tag, title)| (tag.to_owned(), title.to_owned()));
        let titles = BTreeMap::from(titles);
        let asked = ["it-CH", "IT", "en", "de", ""].map(|locale| title(&titles, locale, "offers"));
        assert_eq!(asked, ["Offerte", "Offerte", "Offers", "Offers", "Offers"]);
        assert_eq!(title(&BTreeMap::new(), "it", "offers"), "offers");
    }

    #[test]
    fn a_browsers_language_is_a_tag_or_english() {
        let asked = [Some("de-AT,de;q=0.9"), Some("*"), Some("<b>"), None].map(preferred);
        assert_eq!(asked, ["de-AT", "en", "en", "en"]);
        assert_eq!((Words::of("de-AT").language, Words::of("xx").language), ("de", "en"));
    }
}
