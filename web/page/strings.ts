/** Every string of the page, so that it can be translated in one place. */

const seconds = (ms: number) => {
  if (ms < 95) return `${Math.round(ms)} ms`
  const value = ms / 1000
  return `${value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 })} s`
}

const many = (count: number, one: string, more: string) =>
  `${count.toLocaleString('en')} ${count === 1 ? one : more}`

const duration = (ms: number) =>
  ms < 90_000
    ? many(Math.max(1, Math.round(ms / 1000)), 'second', 'seconds')
    : many(Math.round(ms / 60_000), 'minute', 'minutes')

export const strings = {
  product: 'Durable chat',
  skipToMessage: 'Skip to the message',

  login: {
    lead: 'Replies that go on, whatever dies in between.',
    username: 'Username',
    email: 'Email',
    password: 'Password',
    passwordHint: 'Eight characters or more, and not a common one.',
    eitherHint: 'To log in, one of the two is enough.',
    logIn: 'Log in',
    register: 'Register',
    needName: 'Type your username or your email.',
    needPassword: 'Type your password.',
    needUsername: 'Type a username.',
    needEmail: 'Type an email.',
    kept: 'What you typed is kept.',
    ended: {
      LOGGED_OUT: 'You were logged out.',
      TOKEN_REUSED:
        'Your session ended, because one of its old tokens was used again. If that was not you, change devices you do not trust.',
      ACCOUNT_DELETED: 'The account was deleted.',
      other: 'Your session has ended.',
    },
  },

  chats: {
    heading: 'Chats',
    newChat: 'New chat',
    untitled: 'Untitled',
    empty: 'Your chats will be listed here.',
    loading: 'Loading…',
    open: 'Show the chats',
    close: 'Hide the chats',
    rename: 'Rename',
    renameField: 'Title',
    delete: 'Delete',
    deleted: <Title>(title: Title) => ['“', title, '” is deleted.'],
    undo: 'Undo',
    notDeleted: 'The chat could not be deleted.',
    notRenamed: 'The title could not be changed.',
    notLoaded: 'The list could not be loaded.',
  },

  conversation: {
    label: 'Conversation',
    you: 'You',
    reply: 'Reply',
    loadingOlder: 'Loading earlier messages…',
    toEnd: 'To the end',
    copyMessage: 'Copy',
    copied: 'Copied',
    notCopied: 'The browser did not allow copying.',
    waiting: 'Waiting to be sent',
    waitingOffline: 'Waiting for the connection; it is sent once',
    notFound: 'There is no such chat. It may have been deleted, or be another account’s.',
    toNewChat: 'Begin another',
    deletedElsewhere: 'This chat was deleted on another device.',
    notLoaded: 'The messages could not be loaded.',
    tryAgain: 'Try again',
    thinking: 'Thinking…',
    thought: (ms: number | undefined) =>
      ms === undefined ? 'Thought' : `Thought for ${seconds(ms)}`,
    starting: 'Starting…',
    position: (position: number) =>
      position === 1 ? 'Next in line' : `Number ${position} in line`,
    begins: (ms: number) => (ms < 1500 ? 'begins soon' : `begins in about ${duration(ms)}`),
    contextSent: (sent: number) => `${many(sent, 'message', 'messages')} sent`,
    contextLeftOut: (dropped: number) => `${dropped.toLocaleString('en')} left out`,
    contextHelp:
      'What of this chat the model was given. Older messages are left out when its window is full.',
    speed: (tokens: number) =>
      `${tokens.toLocaleString('en', { maximumFractionDigits: tokens < 10 ? 1 : 0 })} tokens/s`,
    firstToken: (ms: number) => `first token after ${seconds(ms)}`,
    cached: 'from the cache',
    stopped: 'You stopped this reply.',
    interrupted: 'This reply was interrupted too often. It ends with the text it had.',
    failed: 'This reply failed.',
    finish: {
      length:
        'The reply reached its longest length. Raise num_predict in the settings, or ask for the rest.',
      tool_calls: 'The model asked for a tool, which this page does not have.',
      empty: 'The model had nothing to say.',
      other: (reason: string) => `The reply ended with “${reason}”.`,
    },
    again: 'Ask again',
    announceStarted: 'The reply begins.',
    announceEnded: 'The reply is complete.',
    announceStopped: 'The reply was stopped.',
    announceFailed: 'The reply failed.',
  },

  /** What to do about an error, by its code; else the server’s own message is shown. */
  advice: {
    MODEL_UNREACHABLE: 'Ollama cannot be reached. Start it with `ollama serve`, then send again.',
    MODELS_UNKNOWN: 'Ollama cannot be reached. Start it with `ollama serve`, then send again.',
    MODEL_NOT_FOUND:
      'Ollama does not have this model. Choose another in the settings, or run `ollama pull`.',
    MODEL_CANNOT:
      'This model does not support what the settings ask for. Change them, or choose another model.',
    MODEL_TIMEOUT:
      'Ollama took too long. It may be loading the model: wait a little, then send again.',
    MODEL_FAILED:
      'Ollama reported an error; the server’s log has its words. Send again, or choose another model.',
    MODEL_BAD_RESPONSE:
      'What answers in Ollama’s place does not speak its protocol. Check OLLAMA_API_URL.',
    MODEL_CUT: 'Ollama ended the reply before it was done. Send again.',
    MESSAGE_TOO_LONG:
      'This message alone does not fit the model’s window. Shorten it, or raise num_ctx in the settings.',
    QUEUE_FULL: 'Too many replies are waiting on this server. Send again in a moment.',
    USER_QUEUE_FULL:
      'Too many of your replies are waiting. Let one finish, or stop it, then send again.',
    STORAGE_FULL: 'The server’s disk is full: nothing was stored. Make room, then send again.',
    STORE_UNAVAILABLE: 'The server’s database is away. Send again in a moment.',
    RATE_LIMITED: 'That was too much at once. Wait a minute.',
    NETWORK: 'The server cannot be reached. What you send is kept until it is back.',
    TIMEOUT: 'The server does not answer. Try again in a moment.',
    BAD_CREDENTIALS: 'No account has this name and password. Check both.',
    USER_TAKEN: 'This username or email is taken. Choose another, or log in.',
    TOO_MANY_PENDING: 'Too many messages wait for the connection already.',
    INTERNAL: 'The server failed. Its log has the cause.',
  } as Readonly<Record<string, string>>,
  requestId: (id: string) => `Request ${id}`,

  composer: {
    message: 'Message',
    placeholder: 'Write a message',
    send: 'Send',
    stop: 'Stop',
    hint: 'Enter sends · Shift+Enter makes a new line · Esc stops',
    tooLong: (length: number) =>
      `${length.toLocaleString('en')} of 100,000 characters: shorten it before sending.`,
    notSent: 'This message was not sent.',
  },

  connection: {
    offline: 'Offline. What you send is kept, and sent once when the connection is back.',
    connecting: 'The server does not answer. Trying again…',
    back: 'Connected again.',
    closed: 'The connection was closed.',
    reconnect: 'Connect',
  },

  settings: {
    open: 'Settings',
    close: 'Close the settings',
    heading: 'This chat',
    headingNew: 'The new chat',
    saved: 'Saved',
    saving: 'Saving…',
    model: 'Model',
    modelHelp: 'Who answers. A change counts from the next message on.',
    modelDefault: 'The server’s choice',
    modelGone: (name: string) => `${name} (not there)`,
    modelsFailed: 'The models could not be listed.',
    system: 'System prompt',
    systemHelp: 'What the model is told before every message: who it is, how to answer.',
    options: 'Options',
    reset: 'Reset all options',
    default: 'default',
    yes: 'on',
    no: 'off',
    fields: {
      temperature: ['Temperature', '0 says the likeliest words, 1 and more the surprising ones.'],
      seed: ['Seed', 'With temperature 0 and a seed the same question has the same answer.'],
      num_ctx: [
        'Context window',
        'How many tokens of the chat the model sees. More needs more memory.',
      ],
      num_predict: ['Longest reply', 'In tokens. -1 leaves it to the server’s bound.'],
      top_k: ['Top k', 'Chooses among the k likeliest tokens.'],
      top_p: ['Top p', 'Chooses among the tokens that make up this part of the probability.'],
      min_p: ['Min p', 'Leaves out tokens less likely than this part of the likeliest one.'],
      repeat_penalty: ['Repeat penalty', 'Above 1 makes repetition less likely.'],
      repeat_last_n: ['Repeat window', 'How many tokens back repetition is looked for; -1 is all.'],
      presence_penalty: ['Presence penalty', 'Above 0 favours new subjects.'],
      frequency_penalty: ['Frequency penalty', 'Above 0 makes frequent words less likely.'],
      stop: ['Stop at', 'Ends the reply where one of these texts would come. One a line.'],
      think: ['Thinking', 'Whether a model that can think does so before it answers.'],
    },
    invalid: (least: number, most: number) => `From ${least} to ${most}.`,
    invalidInteger: (least: number, most: number) => `A whole number from ${least} to ${most}.`,
  },

  account: {
    menu: (name: string) => `Account of ${name}`,
    menuUnnamed: 'Account',
    profile: 'Profile',
    username: 'Username',
    email: 'Email',
    since: 'Member since',
    logOut: 'Log out',
    logOutEverywhere: 'Log out everywhere',
    logOutEverywhereHelp: 'Ends every session on every device, and stops the replies that run.',
    delete: 'Delete account',
    deleteHelp:
      'Deletes the account with all its chats, at once and for good. Type the password to confirm.',
    deleteConfirm: 'Delete for good',
    cancel: 'Cancel',
    close: 'Close',
    keyboard: 'Keyboard',
    appearance: 'Appearance',
    themes: { system: 'System', light: 'Light', dark: 'Dark' },
    api: 'API reference',
    protocol: 'Protocol',
  },

  keys: [
    ['Enter', 'Send'],
    ['Shift+Enter', 'New line'],
    ['Esc', 'Stop the reply'],
    ['Alt+N', 'New chat'],
    ['Alt+↑ · Alt+↓', 'Chat above, chat below'],
    ['↑ · ↓', 'Move in the list of chats'],
    ['F2', 'Rename the chat'],
    ['Delete', 'Delete the chat'],
  ],

  start: {
    heading: 'What shall we talk about?',
    eliza: 'No Ollama is connected, so ELIZA answers: a program of 1966, not a model.',
    connect: 'To talk to your own models, start the server like this:',
    command: 'OLLAMA_API_URL=http://localhost:11434 npm start',
    noModels: 'Ollama is connected, but has no model that can chat. Get one:',
    pull: 'ollama pull llama3.2',
    prompts: [
      'Men are all alike.',
      'I had a strange dream last night.',
      'Can you help me to decide?',
    ],
  },

  survive: {
    heading: 'See it survive',
    lead: 'A reply belongs to the server’s storage, not to this window or to one process.',
    steps: {
      window: 'Open this chat in a second window.',
      windowAction: 'Second window',
      ask: 'Ask something. Both windows write the reply.',
      kill: 'Kill the server in the middle of it:',
      start: 'Start it again. The reply goes on, in both windows:',
    },
    killCommand: 'pkill -9 -f dist/src/server.js',
    startCommand: 'npm start',
    done: 'done',
    goesOn: 'It is back. The reply goes on, in both windows.',
    finished: 'It survived. What both windows show is what is stored.',
    slower: 'ELIZA is quick: `ELIZA_PACE_MS=300 npm start` leaves time to kill it.',
    hide: 'Hide',
    show: 'See it survive',
    step: (number: number, of: number) => `${number} of ${of}`,
  },

  code: {
    copy: 'Copy code',
    label: (language: string) => (language ? `Code, ${language}` : 'Code'),
    table: 'Table',
    image: (alt: string) => (alt ? `Image: ${alt}` : 'Image'),
    done: 'Done:',
    open: 'To do:',
  },
}
